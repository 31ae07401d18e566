"""The state of a check is that of its newest run, in whatever order and batches runs come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.fleet.check_state import Known, Run, newest_state
from ct_ops_server.fleet.items import CheckStatus

PASS, FAIL = CheckStatus.PASS, CheckStatus.FAIL
_histories = st.lists(
    st.builds(Run, st.sampled_from(CheckStatus), st.integers(1, 1_000)),
    min_size=1,
    max_size=12,
    unique_by=lambda run: run.ran_at_ms,
)


def test_the_first_run_is_the_state() -> None:
    """Since then, and newest."""
    assert Known(PASS, 5, 5) == newest_state(None, [Run(PASS, 5)])


def test_a_late_run_changes_nothing() -> None:
    """Neither the status, nor since when."""
    known = Known(FAIL, 10, 20)

    assert known == newest_state(known, [Run(PASS, 15), Run(FAIL, 5)])


def test_of_two_statuses_at_one_time_the_later_word_counts() -> None:
    """Runs of a clock that is ahead all count as at their arrival: the last one that came is the newest."""
    assert Known(FAIL, 7, 7) == newest_state(Known(PASS, 1, 7), [Run(FAIL, 7)])


@given(_histories)
def test_a_whole_history_at_once_ends_in_its_trailing_runs(history: list[Run]) -> None:
    """``since`` is the first of the last runs that all have the same status."""
    ordered = sorted(history, key=lambda run: run.ran_at_ms)
    since = ordered[-1]
    for run in reversed(ordered):
        if run.status is not since.status:
            break
        since = run

    assert Known(since.status, since.ran_at_ms, ordered[-1].ran_at_ms) == newest_state(None, history)


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
    """Run by run, shuffled: status and time are the newest's."""
    known = None
    for place in order:
        if place < len(history):
            known = newest_state(known, [history[place]])
    newest = max(history, key=lambda run: run.ran_at_ms)

    assert known is not None
    assert (newest.status, newest.ran_at_ms) == (known.status, known.ran_at_ms)
