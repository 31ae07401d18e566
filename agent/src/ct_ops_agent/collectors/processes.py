"""Processes: how many there are in which state, and the names that use most of processor and memory.

Read from ``/proc/<pid>/stat``, which anybody may read, unless ``/proc`` is mounted with hidepid: then only
our own are there, and that is said. The busiest are told by *name*, all processes of a name together: names
are few and stay, process ids are many and never come back. Two kinds of names do not stay. Threads of the kernel
are told without what follows the slash (``kworker/0:1-events`` is one of ``kworker``). Programs may call
themselves anything, so only so many names are told while the agent runs; further ones are ``other`` together.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from msgspec import Meta

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

_OF_KERNEL = 0x00200000
"""PF_KTHREAD, of the flags of a process."""

_MOST_NAMES = 200
_OTHER = "other"

_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "blocked",
    "I": "idle",
    "Z": "zombie",
    "T": "stopped",
    "t": "stopped",
}


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as the kernel tells it."""

    pid: int
    name: str
    state: str
    cpu_ticks: int
    threads: int
    started_ticks: int
    """With the pid what tells it from an earlier process of the same number."""

    resident_pages: int


def parse_process(text: str) -> Process | None:
    """Return what ``/proc/<pid>/stat`` says; the name stands in brackets and may hold any character."""
    pid, _, rest = text.partition(" (")
    name, closed, numbers = rest.rpartition(") ")
    words = numbers.split()
    if not closed or not pid.isdecimal() or len(words) < 22:
        return None
    return Process(
        int(pid),
        name.partition("/")[0] if int(words[6]) & _OF_KERNEL else name,
        _STATES.get(words[0], "other"),
        int(words[11]) + int(words[12]),
        int(words[17]),
        int(words[19]),
        int(words[21]),
    )


def busiest(before: dict[tuple[int, int], int], now: list[Process]) -> Counter[str]:
    """Return the ticks that each name has used between two looks."""
    used: Counter[str] = Counter()
    for process in now:
        earlier = before.get((process.pid, process.started_ticks), 0)
        used[process.name] += max(process.cpu_ticks - earlier, 0)
    return used


class ProcessesSettings(Settings, frozen=True):
    """Keys of ``[collectors.processes]``."""

    top: Annotated[
        int, Meta(ge=0, le=50, description="How many names are told, by processor and by memory.")
    ] = 5


class Processes(Collector[ProcessesSettings]):
    """Collector ``processes``."""

    about = About(
        name="processes",
        summary="Counts of processes, and who uses most of processor and memory.",
        reads="`/proc/<pid>/stat` of every process",
        cost="0.03 ms for each process",
        interval=timedelta(minutes=2),
        samples=(
            SampleDoc("processes.count", "", "all of them"),
            SampleDoc("processes.threads", "", "of all processes"),
            SampleDoc("processes.in_state", "", "processes in a state", labels=("state",)),
            SampleDoc(
                "processes.cpu_percent",
                "percent",
                "of one processor, since the run before; `other`: names after the first 200",
                ("name",),
            ),
            SampleDoc(
                "processes.memory_bytes",
                "bytes",
                "resident, shared pages counted for each; `other` as above",
                ("name",),
            ),
        ),
    )
    settings_type = ProcessesSettings

    def __init__(
        self,
        settings: ProcessesSettings,
        proc: Path = Path("/proc"),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            settings: its keys.
            proc: the kernel's folder.
            monotonic: seconds of a clock that never goes back.
        """
        super().__init__(settings)
        self._proc = proc
        self._monotonic = monotonic
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._before: dict[tuple[int, int], int] = {}
        self._names: set[str] = set()
        self._looked_at_s: float | None = None

    def collect(self) -> Iterator[Reading]:
        """Look at every process."""
        now_s, now = self._monotonic(), self._look()
        yield Sample("processes.count", len(now))
        yield Sample("processes.threads", sum(process.threads for process in now))
        states = Counter(process.state for process in now)
        for state in sorted({*_STATES.values(), *states}):
            yield Sample("processes.in_state", states[state], "", {"state": state})
        yield from self._top_memory(now)
        yield from self._top_cpu(now, now_s)
        self._before = {(process.pid, process.started_ticks): process.cpu_ticks for process in now}
        self._looked_at_s = now_s
        if not any(process.pid == 1 for process in now):
            yield Missing("processes of other users", "/proc hides them (hidepid); see proc(5)")

    def _look(self) -> list[Process]:
        try:
            pids = [name for name in os.listdir(self._proc) if name.isdecimal()]  # noqa: PTH208  a tenth of the cost
        except OSError as error:
            raise CollectorError(f"{self._proc} cannot be read: {error.strerror}") from error
        found = (self._read(pid) for pid in pids)
        return [process for process in found if process is not None]

    def _read(self, pid: str) -> Process | None:
        try:
            with open(f"{self._proc}/{pid}/stat", "rb") as file:  # noqa: PTH123  as above
                return parse_process(file.read().decode(errors="replace"))
        except OSError:
            return None  # ended since it was listed

    def _top_memory(self, now: list[Process]) -> Iterator[Reading]:
        used: Counter[str] = Counter()
        for process in now:
            used[process.name] += process.resident_pages * self._page_bytes
        for name, size in self._told(used).items():
            yield Sample("processes.memory_bytes", size, "bytes", {"name": name})

    def _top_cpu(self, now: list[Process], now_s: float) -> Iterator[Reading]:
        if self._looked_at_s is None or now_s <= self._looked_at_s:
            return  # the first look: since when would it be?
        ticks = (now_s - self._looked_at_s) * self._ticks_per_s
        for name, used in self._told(+busiest(self._before, now)).items():
            yield Sample("processes.cpu_percent", 100.0 * used / ticks, "percent", {"name": name})

    def _told(self, used: Counter[str]) -> Counter[str]:
        """Return the names that used most; those that are one too many are `_OTHER`."""
        told: Counter[str] = Counter()
        for name, amount in used.most_common(self.settings.top):
            if name in self._names or len(self._names) < _MOST_NAMES:
                self._names.add(name)
                told[name] += amount
            else:
                told[_OTHER] += amount
        return told
