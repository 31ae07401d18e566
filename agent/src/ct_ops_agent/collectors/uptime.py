"""Uptime: how long the host has been up, by the kernel's clock that setting the time does not move."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from ct_ops_agent.collector import About, Collector, Reading, Sample, SampleDoc, Settings


def read_boot_clock() -> float:
    """Return the seconds since boot, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Uptime(Collector[Settings]):
    """Collector ``uptime``."""

    about = About(
        name="uptime",
        summary="How long the host has been up.",
        reads="the kernel's boot clock (`CLOCK_BOOTTIME`)",
        cost="a system call",
        interval=timedelta(seconds=60),
        samples=(SampleDoc("uptime.seconds", "s", "since boot, suspended time included"),),
    )

    def __init__(self, settings: Settings, read: Callable[[], float] = read_boot_clock) -> None:
        """Prepare; ``read`` returns the seconds since boot."""
        super().__init__(settings)
        self._read = read

    def collect(self) -> Iterator[Reading]:
        """Look at the clock."""
        yield Sample("uptime.seconds", self._read(), "s")
