"""Times of everything that happened, in little memory: counts in buckets that grow with the time. Pure.

A bucket is at most 1/64 of its time wide, from one microsecond to hours, so a percentile is right to 1.6 %, and the largest
time is kept as it was. What came, came in: no sampling, no window. Histograms of several processes are merged by adding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

_BITS = 6
_SUB_BUCKETS = 1 << _BITS


@dataclass
class Histogram:
    """How often which time was seen."""

    buckets: dict[int, int] = field(default_factory=dict)
    count: int = 0
    longest_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a time."""
        bucket = _bucket(int(seconds * 1e6))
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1
        self.longest_s = max(self.longest_s, seconds)

    def merge(self, other: Histogram) -> None:
        """Count what another one has counted."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.count += other.count
        self.longest_s = max(self.longest_s, other.longest_s)

    def since(self, earlier: Histogram) -> Histogram:
        """Return what was counted after an earlier state of this one; the longest time is its bucket's."""
        buckets = {
            bucket: count - earlier.buckets.get(bucket, 0)
            for bucket, count in self.buckets.items()
            if count > earlier.buckets.get(bucket, 0)
        }
        longest_s = min(_upper_us(max(buckets)) / 1e6, self.longest_s) if buckets else 0.0
        return Histogram(buckets, self.count - earlier.count, longest_s)

    def percentile_s(self, percent: float) -> float:
        """Return a time that so many percent are not above, at most one bucket too long; 0 when nothing was seen."""
        wanted = max(1, math.ceil(percent / 100 * self.count))
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(_upper_us(bucket) / 1e6, self.longest_s)
        return 0.0

    def figures_ms(self, percents: Iterable[float]) -> dict[str, float]:
        """Return percentiles and the longest time, in milliseconds."""
        shown = {f"p{percent:g}_ms": round(self.percentile_s(percent) * 1e3, 2) for percent in percents}
        return shown | {"max_ms": round(self.longest_s * 1e3, 2)}


def _bucket(us: int) -> int:
    if us < 2 * _SUB_BUCKETS:
        return us
    shift = us.bit_length() - _BITS - 1
    return (shift << _BITS) + (us >> shift)


def _upper_us(bucket: int) -> int:
    """Return the longest time that falls into a bucket."""
    if bucket < 2 * _SUB_BUCKETS:
        return bucket
    shift = (bucket >> _BITS) - 1
    return ((bucket - (shift << _BITS) + 1) << shift) - 1
