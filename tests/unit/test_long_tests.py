"""Nobody waits at the end for a test that could have been started first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from long_tests import long_ones_first


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        (1, [90, 91, 92, 0, 1, 2, 3, 4]),
        (2, [91, 0, 1, 2, 90, 92, 3, 4]),
        (4, [0, 1, 92, 2, 91, 3, 90, 4]),
    ],
)
def test_each_stretch_begins_with_long_ones(processes: int, expected: list[int]) -> None:
    """As many as there are for it."""
    assert expected == long_ones_first([90, 91, 92], [0, 1, 2, 3, 4], processes)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 9))
def test_no_test_is_lost(long: int, others: int, processes: int) -> None:
    """Whatever there is of each."""
    tests = list(range(long + others))

    assert tests == sorted(long_ones_first(tests[:long], tests[long:], processes))
