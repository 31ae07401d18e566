"""The state of a check is that of its newest run, in whatever order and batches runs come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.fleet.check_state import Known, Run, newest_state
from ct_ops_server.fleet.items import CheckStatus

PASS, FAIL, ERROR = CheckStatus.PASS, CheckStatus.FAIL, CheckStatus.ERROR
NOW = 1_000_000
_histories = st.lists(
    st.builds(Run, st.sampled_from(CheckStatus), st.integers(1, 1_000), st.just(NOW)),
    min_size=1,
    max_size=12,
    unique_by=lambda run: run.ran_at_ms,
)


def run(status: CheckStatus, ran_at_ms: int, arrived_ms: int = NOW) -> Run:
    return Run(status, ran_at_ms, arrived_ms)


def test_the_first_run_is_the_state() -> None:
    """Since then, and newest."""
    assert Known(run(PASS, 5), 5) == newest_state(None, [run(PASS, 5)])


def test_a_late_run_changes_nothing() -> None:
    """Neither the status, nor since when."""
    known = Known(run(FAIL, 20), 10)

    assert known == newest_state(known, [run(PASS, 15), run(FAIL, 5)])


def test_a_run_from_the_future_is_the_newest_until_the_next_one_arrives() -> None:
    """Its own date is kept for those who know the agent's clock."""
    ahead = newest_state(None, [run(FAIL, 9_000, arrived_ms=500)])
    after = newest_state(ahead, [run(PASS, 501, arrived_ms=502)])

    assert Known(run(FAIL, 9_000, 500), 9_000) == ahead
    assert Known(run(PASS, 501, 502), 501) == after


def test_a_host_whose_clock_is_ahead_has_its_runs_in_their_order() -> None:
    """In one batch, where all of them count as at their arrival, and over several."""
    batches = [
        [run(ERROR, 9_002, 500), run(PASS, 9_000, 500), run(FAIL, 9_001, 500)],
        [run(ERROR, 9_060, 560)],
    ]
    known = None
    for batch in batches:
        known = newest_state(known, batch)

    assert Known(run(ERROR, 9_060, 560), 9_002) == known


@given(_histories)
def test_a_whole_history_at_once_ends_in_its_trailing_runs(history: list[Run]) -> None:
    """``since_ms`` is the first of the last runs that all have the same status."""
    ordered = sorted(history, key=lambda run: run.ran_at_ms)
    since = ordered[-1]
    for each in reversed(ordered):
        if each.status is not since.status:
            break
        since = each

    assert Known(ordered[-1], since.ran_at_ms) == newest_state(None, history)


@given(_histories, st.integers(0, 12))
def test_batches_in_the_order_of_time_end_like_one(history: list[Run], cut: int) -> None:
    """How an agent packs its runs makes no difference."""
    ordered = sorted(history, key=lambda run: run.ran_at_ms)
    known = None
    for part in (ordered[:cut], ordered[cut:]):
        known = newest_state(known, part) if part else known

    assert newest_state(None, history) == known


@given(_histories, st.permutations(range(12)))
def test_the_newest_run_is_the_state_in_any_order(history: list[Run], order: list[int]) -> None:
    """Run by run, shuffled."""
    known = None
    for place in order:
        if place < len(history):
            known = newest_state(known, [history[place]])

    assert known is not None
    assert max(history, key=lambda run: run.ran_at_ms) == known.newest
