"""What a run of the load tool says about itself."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_loadtest.figures import Tally, percentile

TIMES_S = st.floats(0, 60)


@pytest.mark.parametrize(
    ("percent", "expected"), [(0.0, 1.0), (1.0, 1.0), (50.0, 5.0), (51.0, 6.0), (90.0, 9.0), (99.9, 10.0)]
)
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    """Of ten values the median is the fifth: a value that was measured, never one in between."""
    assert expected == percentile([float(value) for value in range(1, 11)], percent)


def test_without_a_measurement_there_is_no_percentile() -> None:
    """Zero, so that a run in which nothing was served still prints its failures."""
    assert 0.0 == percentile([], 99.0)


@given(st.lists(TIMES_S, min_size=1).map(sorted), st.floats(0, 100))
def test_a_percentile_bounds_its_share_of_the_values(ordered: list[float], percent: float) -> None:
    """At least that share of all values is not above it, and it is one of them."""
    bound = percentile(ordered, percent)

    assert bound in ordered
    assert sum(value <= bound for value in ordered) >= percent / 100 * len(ordered) - 1e-9


def test_figures_are_rates_and_milliseconds() -> None:
    """Ten heartbeats in two seconds are five a second, and 0.02 s is 20 ms."""
    tally = Tally(registered=4, registration_s=0.5, beating_s=2.0, round_trips_s=[0.02] * 9 + [0.5])

    assert {
        "agents": 4,
        "registrations_per_s": 8.0,
        "heartbeats": 10,
        "heartbeats_per_s": 5.0,
        "failures": {},
        "p50_ms": 20.0,
        "p90_ms": 20.0,
        "p99_ms": 500.0,
        "p99.9_ms": 500.0,
    } == tally.figures()


def test_round_trips_need_no_order() -> None:
    """They are gathered agent by agent."""
    one = Tally(round_trips_s=[0.3, 0.1, 0.2]).figures()

    assert (200.0, 300.0) == (one["p50_ms"], one["p99_ms"])


def test_a_run_in_which_nothing_was_served_has_figures() -> None:
    """No division by the time or number of what did not happen."""
    figures = Tally(failures=Counter({"UNAVAILABLE: refused": 3})).figures()

    assert (0, 0, 0.0) == (figures["registrations_per_s"], figures["heartbeats_per_s"], figures["p99_ms"])
    assert {"UNAVAILABLE: refused": 3} == figures["failures"]


def test_failures_of_all_sorts_are_counted_together() -> None:
    """The exit code asks for one number."""
    assert 5 == Tally(failures=Counter({"one": 2, "other": 3})).failed
    assert 0 == Tally().failed
