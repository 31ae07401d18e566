"""What a report means when somebody asks."""

from dataclasses import replace

import pytest

from ct_ops_agent.status.report import Report, State
from ct_ops_agent.status.verdict import judge, patience_s

CONNECTED = Report(7, "1.0", "/data", State.CONNECTED, 0.0, 1_000.0, acknowledged_at=1_000.0)


def test_connected_and_acknowledged_lately_is_well() -> None:
    """Exit code 0, nothing to say."""
    verdict = judge(CONNECTED, alive=True, now=1_030.0)

    assert (0, "connected", "", True) == (
        verdict.exit_code,
        verdict.headline,
        verdict.problem,
        verdict.is_running,
    )


def test_connected_and_long_silent_is_not_well() -> None:
    """A daemon that hangs cannot say so itself."""
    verdict = judge(CONNECTED, alive=True, now=1_091.0)

    assert (4, "silent") == (verdict.exit_code, verdict.headline)
    assert "no heartbeat was acknowledged for 91 s" in verdict.problem


@pytest.mark.parametrize("state", [state for state in State if state is not State.CONNECTED])
def test_every_other_state_is_told_as_it_is(state: State) -> None:
    """With the problem that the daemon wrote down."""
    verdict = judge(replace(CONNECTED, state=state, problem="do this"), alive=True, now=1_001.0)

    assert (4, state.value, "do this") == (verdict.exit_code, verdict.headline, verdict.problem)


def test_a_dead_process_is_not_running_whatever_it_wrote_last() -> None:
    """A stale file says when it was, not how it is."""
    verdict = judge(CONNECTED, alive=False, now=1_001.0)

    assert (3, "not running", False) == (verdict.exit_code, verdict.headline, verdict.is_running)
    assert "start it" in verdict.problem


def test_no_report_at_all_is_not_running() -> None:
    """Nobody has ever started it, or with another data directory."""
    assert 3 == judge(None, alive=False, now=0.0).exit_code


@pytest.mark.parametrize(("interval", "expected"), [(1.0, 60.0), (30.0, 90.0), (3600.0, 10_800.0)])
def test_patience_follows_the_interval(interval: float, expected: float) -> None:
    """Three intervals, a minute at least."""
    assert expected == patience_s(replace(CONNECTED, heartbeat_interval_s=interval))
