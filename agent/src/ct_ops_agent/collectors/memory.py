"""Memory: how much the host has, how much is left, and how much was moved to disk.

"Available" is the kernel's own estimate of what programs could still get (Linux 3.14 and later); where there
is none it is left out rather than guessed from what is free.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from ct_ops_agent.collector import (
    About,
    Collector,
    CollectorError,
    Missing,
    Reading,
    Sample,
    SampleDoc,
    Settings,
)

_KIB = 1024


def parse_meminfo(text: str) -> dict[str, int]:
    """Return the fields of ``/proc/meminfo`` in bytes; those without a unit are left out."""
    found = {}
    for line in text.split("\n"):
        name, _, rest = line.partition(":")
        number, _, unit = rest.strip().partition(" ")
        if unit == "kB" and number.isdecimal():
            found[name] = int(number) * _KIB
    return found


class Memory(Collector[Settings]):
    """Collector ``memory``."""

    about = About(
        name="memory",
        summary="Memory and swap space.",
        reads="`/proc/meminfo`",
        cost="0.1 ms a run",
        interval=timedelta(seconds=60),
        samples=(
            SampleDoc("memory.total_bytes", "bytes", "what the kernel manages"),
            SampleDoc("memory.available_bytes", "bytes", "what programs could get without swapping"),
            SampleDoc("memory.used_percent", "percent", "what is not available"),
            SampleDoc("memory.cached_bytes", "bytes", "page cache and buffers"),
            SampleDoc("memory.dirty_bytes", "bytes", "waiting to be written to disks"),
            SampleDoc("memory.swap_total_bytes", "bytes", "swap space; 0: none"),
            SampleDoc("memory.swap_used_bytes", "bytes", "of it in use"),
        ),
    )

    def __init__(self, settings: Settings, meminfo: Path = Path("/proc/meminfo")) -> None:
        """Prepare; ``meminfo`` is the kernel's file."""
        super().__init__(settings)
        self._meminfo = meminfo

    def collect(self) -> Iterator[Reading]:
        """Look at the memory now."""
        try:
            fields = parse_meminfo(self._meminfo.read_text())
        except OSError as error:
            raise CollectorError(f"{self._meminfo} cannot be read: {error.strerror}") from error
        if "MemTotal" not in fields:
            raise CollectorError(f"{self._meminfo} does not say how much memory there is")
        yield from _samples(fields)


def _samples(fields: dict[str, int]) -> Iterator[Reading]:
    total = fields["MemTotal"]
    yield Sample("memory.total_bytes", total, "bytes")
    if "MemAvailable" in fields:
        available = fields["MemAvailable"]
        yield Sample("memory.available_bytes", available, "bytes")
        if total:
            yield Sample("memory.used_percent", 100.0 * (total - available) / total, "percent")
    else:
        yield Missing("available memory", "this kernel does not estimate it (before Linux 3.14)")
    yield Sample("memory.cached_bytes", fields.get("Cached", 0) + fields.get("Buffers", 0), "bytes")
    yield Sample("memory.dirty_bytes", fields.get("Dirty", 0), "bytes")
    yield Sample("memory.swap_total_bytes", fields.get("SwapTotal", 0), "bytes")
    yield Sample(
        "memory.swap_used_bytes", max(fields.get("SwapTotal", 0) - fields.get("SwapFree", 0), 0), "bytes"
    )
