"""Disk I/O: what each disk read and wrote a second since the run before, and how long it was busy.

Whole disks only: what a partition or a volume on top of them did is in theirs. The kernel counts in sectors
of 512 bytes, whatever the disk's own are (Documentation/admin-guide/iostats).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ct_ops_agent.collector import (
    About,
    Collector,
    CollectorError,
    Rates,
    Reading,
    Sample,
    SampleDoc,
    Settings,
)

_SECTOR_BYTES = 512
_NO_DISKS = re.compile(r"(loop|ram|zram|sr|fd|dm-|md|nbd)\d*.*")


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one disk, since boot."""

    reads: int
    read_sectors: int
    writes: int
    written_sectors: int
    busy_ms: int


def parse_diskstats(text: str) -> dict[str, Counters]:
    """Return the devices of ``/proc/diskstats`` by name."""
    found = {}
    for line in text.split("\n"):
        words = line.split()
        if len(words) >= 13 and all(word.isdecimal() for word in words[3:13]):
            numbers = [int(word) for word in words[3:13]]
            found[words[2]] = Counters(numbers[0], numbers[2], numbers[4], numbers[6], numbers[9])
    return found


class DiskIo(Collector[Settings]):
    """Collector ``disk_io``."""

    about = About(
        name="disk_io",
        summary="What each disk reads and writes a second.",
        reads="`/proc/diskstats`, the names in `/sys/block`",
        cost="0.3 ms a run",
        interval=timedelta(seconds=60),
        samples=(
            SampleDoc("disk_io.read_bytes_per_second", "bytes/s", "read", labels=("device",)),
            SampleDoc("disk_io.write_bytes_per_second", "bytes/s", "written", labels=("device",)),
            SampleDoc("disk_io.reads_per_second", "1/s", "read requests", labels=("device",)),
            SampleDoc("disk_io.writes_per_second", "1/s", "write requests", labels=("device",)),
            SampleDoc("disk_io.busy_percent", "percent", "time with a request under way", labels=("device",)),
        ),
    )

    def __init__(
        self,
        settings: Settings,
        diskstats: Path = Path("/proc/diskstats"),
        block: Path = Path("/sys/block"),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            settings: none of its own.
            diskstats: the kernel's file.
            block: the folder that lists whole disks.
            monotonic: seconds of a clock that never goes back.
        """
        super().__init__(settings)
        self._diskstats = diskstats
        self._block = block
        self._monotonic = monotonic
        self._rates = Rates()

    def collect(self) -> Iterator[Reading]:
        """Compare the counters with those of the run before; the first run has nothing to compare."""
        try:
            found = parse_diskstats(self._diskstats.read_text())
        except OSError as error:
            raise CollectorError(f"{self._diskstats} cannot be read: {error.strerror}") from error
        now_s = self._monotonic()
        for device in self._disks(found):
            yield from self._of_device(device, found[device], now_s)
        self._rates.end_of_run()

    def _disks(self, found: dict[str, Counters]) -> list[str]:
        try:
            whole = {entry.name.replace("!", "/") for entry in self._block.iterdir()}
        except OSError:
            whole = set(found)  # a container without /sys: partitions are told beside their disks
        return sorted(name for name in found if name in whole and not _NO_DISKS.fullmatch(name))

    def _of_device(self, device: str, counters: Counters, now_s: float) -> Iterator[Reading]:
        amounts = (
            ("read_bytes_per_second", "bytes/s", counters.read_sectors, _SECTOR_BYTES),
            ("write_bytes_per_second", "bytes/s", counters.written_sectors, _SECTOR_BYTES),
            ("reads_per_second", "1/s", counters.reads, 1),
            ("writes_per_second", "1/s", counters.writes, 1),
            ("busy_percent", "percent", counters.busy_ms, 0.1),  # milliseconds a second, of a thousand
        )
        for name, unit, total, factor in amounts:
            rate = self._rates.per_second(f"{device} {name}", total, now_s)
            if rate is not None:
                value = min(rate * factor, 100.0) if unit == "percent" else rate * factor
                yield Sample(f"disk_io.{name}", value, unit, {"device": device})
