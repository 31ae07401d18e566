"""Times in buckets: how right a percentile is, and that nothing is lost."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ct_ops_loadtest.histogram import Histogram

SECONDS = st.lists(st.floats(min_value=0, max_value=100_000), min_size=1, max_size=200)


def histogram(times_s: list[float]) -> Histogram:
    made = Histogram()
    for time_s in times_s:
        made.add(time_s)
    return made


@given(SECONDS, st.floats(min_value=0.1, max_value=100))
def test_a_percentile_is_at_most_one_bucket_above_the_true_one(times_s: list[float], percent: float) -> None:
    """1.6 %, or a microsecond where times are that short; never below it."""
    ordered = sorted(times_s)
    true_s = ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
    found_s = histogram(times_s).percentile_s(percent)

    assert true_s - 1e-6 <= found_s <= true_s * (1 + 1 / 64) + 2e-6


@given(SECONDS, SECONDS)
def test_merged_histograms_are_the_histogram_of_everything(one: list[float], other: list[float]) -> None:
    """Several processes count as one."""
    merged = histogram(one)
    merged.merge(histogram(other))

    assert histogram(one + other) == merged


def test_the_longest_time_is_kept_as_it_was() -> None:
    """One heartbeat of ten thousand that took a minute is what somebody has to look at."""
    made = histogram([0.01] * 9_999 + [61.234567])

    assert 61_234.57 == made.figures_ms((50,))["max_ms"]
    assert made.figures_ms((50, 99.9))["p99.9_ms"] < 11


def test_memory_does_not_grow_with_what_is_counted() -> None:
    """A million heartbeats of up to ten seconds fit into some two thousand buckets."""
    made = histogram([number / 20_000 for number in range(200_000)])

    assert 200_000 == made.count
    assert len(made.buckets) < 2_000


def test_a_histogram_of_nothing_has_figures() -> None:
    """Nothing was served."""
    assert {"p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0} == Histogram().figures_ms((50, 99))


@given(SECONDS, SECONDS)
def test_what_was_counted_since_is_the_histogram_of_that(before: list[float], after: list[float]) -> None:
    """A window of a long run, without what the ramp did; its longest time is right to one bucket."""
    window = histogram(before + after).since(histogram(before))
    alone = histogram(after)

    assert (alone.buckets, alone.count) == (window.buckets, window.count)
    assert alone.longest_s - 1e-6 <= window.longest_s <= max(before + after)
