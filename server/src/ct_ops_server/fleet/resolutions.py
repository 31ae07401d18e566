"""Resolutions: raw samples, and what they are rolled up to; how long each is kept, and which one answers what.

A *bucket* is all samples of one series within one minute, hour or day (UTC): how many, the lowest, the highest,
the mean. The time axis is the agent's clock, as everywhere with samples.

Pure: no database, no clock. ``store.rollups`` makes the buckets, ``store.retention`` removes what is past keeping.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

_MILLISECOND = timedelta(milliseconds=1)


class Resolution(StrEnum):
    """How fine; the finest first."""

    RAW = "raw"
    MINUTE = "1m"
    HOUR = "1h"
    DAY = "1d"


ROLLED = (Resolution.MINUTE, Resolution.HOUR, Resolution.DAY)

WIDTH_MS = {Resolution.MINUTE: MINUTE_MS, Resolution.HOUR: HOUR_MS, Resolution.DAY: DAY_MS}
"""Of a bucket."""

SHELF_MS = {
    Resolution.RAW: DAY_MS,
    Resolution.MINUTE: DAY_MS,
    Resolution.HOUR: 28 * DAY_MS,
    Resolution.DAY: 364 * DAY_MS,
}
"""What is removed at once, a partition on PostgreSQL. Whole days: the days that are rolled up again and again
and those that are not must never meet in one bucket."""

LONGEST_LOOK = {
    Resolution.RAW: timedelta(hours=6),
    Resolution.MINUTE: timedelta(days=2),
    Resolution.HOUR: timedelta(days=90),
}
"""The longest time that is answered in this resolution when nobody says which: some thousand points."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long each resolution is kept, at least.

    Two days of raw samples are one more than the longest outage that an agent's outbox is made for by default;
    what comes later still reaches its buckets. A coarser resolution is never kept shorter than a finer one.
    """

    raw: timedelta = timedelta(days=2)
    minute: timedelta = timedelta(days=14)
    hour: timedelta = timedelta(days=180)
    day: timedelta = timedelta(days=1830)

    def __post_init__(self) -> None:
        """Refuse what would lose a coarse bucket before the samples it is made of."""
        if not self.raw <= self.minute <= self.hour <= self.day:
            raise ValueError("must not be kept shorter than a finer resolution")

    def of(self, resolution: Resolution) -> timedelta:
        """Return how long one is kept."""
        times = (self.raw, self.minute, self.hour, self.day)
        return dict(zip(Resolution, times, strict=True))[resolution]

    def horizon_ms(self, resolution: Resolution, now_ms: int) -> int:
        """Return from when on everything is kept now: the beginning of a shelf."""
        oldest = max(0, now_ms - self.of(resolution) // _MILLISECOND)
        return oldest - oldest % SHELF_MS[resolution]

    def best(self, since: datetime, until: datetime, now: datetime) -> Resolution:
        """Return the finest resolution that still has all of this time and answers it in one look."""
        for resolution, longest in LONGEST_LOOK.items():
            if min(until, now) - since <= longest and since >= now - self.of(resolution):
                return resolution
        return Resolution.DAY


KEEPING = Keeping()


def start_of(at_ms: int, width_ms: int) -> int:
    """Return the beginning of the bucket that a time lies in."""
    return at_ms - at_ms % width_ms
