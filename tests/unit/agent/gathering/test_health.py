"""How a collector has been doing, and how often it may try."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ct_ops_agent.gathering.health import BUDGET, LONGEST_PAUSE_S, Health


def failed(times: int) -> Health:
    health = Health()
    for _ in range(times):
        health = health.after_failure("no", at_unix=0)
    return health


def test_a_few_failures_change_nothing() -> None:
    """A file that is away for a moment."""
    assert 60.0 == failed(BUDGET).interval_s(60)


def test_a_collector_that_keeps_failing_is_asked_less_and_less() -> None:
    """At most every hour."""
    asked = [failed(BUDGET + more).interval_s(60) for more in (1, 2, 3, 10, 500)]

    assert [120.0, 240.0, 480.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S] == asked


def test_a_run_that_brings_something_sets_it_right_at_once() -> None:
    """The pace and the verdict."""
    health = failed(50).after_run(at_unix=1, duration_s=0.1, cpu_s=0.1, samples=3, problem="")

    assert (60.0, "", 51) == (health.interval_s(60), health.problem, health.runs)


@given(st.integers(0, 10_000), st.floats(1, 604_800))
def test_nobody_is_asked_more_often_than_he_should_be(failures: int, interval_s: float) -> None:
    """Not even one whose interval is longer than the longest pause."""
    assert (
        interval_s
        <= Health(failures_in_a_row=failures).interval_s(interval_s)
        <= max(interval_s, LONGEST_PAUSE_S)
    )
