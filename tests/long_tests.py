"""The order of tests: long ones first, in every process.

pytest-xdist gives each process one stretch of the tests, and a process that has done its stretch takes from the end of
another's. A long test in the middle of a stretch is started when it comes up: when that is last, everybody waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def long_ones_first(long: Sequence[T], others: Sequence[T], processes: int) -> list[T]:
    """Return the tests in an order that has some of the long ones, in their order, at the front of each stretch."""
    lengths = [(len(long) + len(others) + process) // processes for process in range(processes)]
    stretches: list[list[T]] = [[] for _ in lengths]
    for number, test in enumerate(long):
        stretches[-1 - number % processes].append(test)
    rest = iter(others)
    for stretch, length in zip(stretches, lengths, strict=True):
        stretch.extend(islice(rest, length - len(stretch)))
    return [test for stretch in stretches for test in stretch]
