"""CPU: how busy the processors were, in all and each, and how many tasks wanted to run.

A percentage is over the whole time since the run before, never over a window of its own (over a tiny one the
agent would mostly measure itself); the first run tells the average since boot. Waiting for I/O is not being
busy. A guest's time is in `user` already (proc(5)) and is not counted again.
"""

from __future__ import annotations

import os
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

_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True, slots=True)
class Ticks:
    """What a processor has done since boot, in ticks of the kernel."""

    busy: float
    iowait: float
    steal: float
    total: float


def parse_stat(text: str) -> dict[str, Ticks]:
    """Return the processors of ``/proc/stat`` by name; ``cpu`` is all of them together."""
    found = {}
    for line in text.split("\n"):
        if not line.startswith("cpu"):
            continue
        name, *numbers = line.split()
        values = dict(zip(_FIELDS, map(float, numbers), strict=False))
        total = sum(values.values())
        iowait = values.get("iowait", 0.0)
        busy = total - values.get("idle", 0.0) - iowait
        found[name] = Ticks(busy, iowait, values.get("steal", 0.0), total)
    return found


def percent(before: Ticks, after: Ticks, part: Callable[[Ticks], float]) -> float:
    """Return a part's share between two looks, 0 to 100; 0 when no time has passed between them."""
    elapsed = after.total - before.total
    if elapsed <= 0:
        return 0.0
    return min(max(100.0 * (part(after) - part(before)) / elapsed, 0.0), 100.0)


class CpuSettings(Settings, frozen=True):
    """Keys of ``[collectors.cpu]``."""

    most_cores: Annotated[
        int, Meta(ge=0, description="Cores are told one by one on hosts with at most so many; 0: never.")
    ] = 32


class Cpu(Collector[CpuSettings]):
    """Collector ``cpu``."""

    about = About(
        name="cpu",
        summary="How busy the processors were since the run before, and the load.",
        reads="`/proc/stat`, `/proc/loadavg`",
        cost="0.3 ms a run",
        interval=timedelta(seconds=60),
        samples=(
            SampleDoc("cpu.percent", "percent", "busy, all processors together"),
            SampleDoc("cpu.iowait_percent", "percent", "idle while something waited for a disk"),
            SampleDoc("cpu.steal_percent", "percent", "taken by the hypervisor for others"),
            SampleDoc("cpu.core_percent", "percent", "busy, one processor", labels=("core",)),
            SampleDoc("cpu.load_1m", "", "tasks that ran or wanted to, mean over about a minute"),
            SampleDoc("cpu.load_5m", "", "the same over about five minutes"),
            SampleDoc("cpu.load_15m", "", "the same over about a quarter of an hour"),
            SampleDoc("cpu.cores", "", "processors that are on"),
        ),
    )
    settings_type = CpuSettings

    def __init__(
        self,
        settings: CpuSettings,
        stat: Path = Path("/proc/stat"),
        load: Callable[[], tuple[float, float, float]] = os.getloadavg,
    ) -> None:
        """Prepare.

        Args:
            settings: its keys.
            stat: the kernel's file.
            load: returns the three means.
        """
        super().__init__(settings)
        self._stat = stat
        self._load = load
        self._before: dict[str, Ticks] = {}

    def collect(self) -> Iterator[Reading]:
        """Look at the processors now."""
        now = self._look()
        before, self._before = self._before, now
        yield from _shares(before.get("cpu", Ticks(0, 0, 0, 0)), now["cpu"])
        cores = {name.removeprefix("cpu"): ticks for name, ticks in now.items() if name != "cpu"}
        yield Sample("cpu.cores", len(cores))
        if len(cores) <= self.settings.most_cores:
            for core, ticks in cores.items():
                share = percent(before.get(f"cpu{core}", Ticks(0, 0, 0, 0)), ticks, lambda one: one.busy)
                yield Sample("cpu.core_percent", share, "percent", {"core": core})
        yield from self._loads()

    def _look(self) -> dict[str, Ticks]:
        try:
            found = parse_stat(self._stat.read_text())
        except (OSError, ValueError) as error:
            raise CollectorError(f"{self._stat} cannot be read: {error}") from error
        if "cpu" not in found:
            raise CollectorError(f"{self._stat} says nothing about processors")
        return found

    def _loads(self) -> Iterator[Reading]:
        try:
            means = self._load()
        except OSError:
            yield Missing("load", "this host does not tell it")
            return
        for minutes, mean in zip((1, 5, 15), means, strict=True):
            yield Sample(f"cpu.load_{minutes}m", mean)


def _shares(before: Ticks, now: Ticks) -> Iterator[Reading]:
    yield Sample("cpu.percent", percent(before, now, lambda one: one.busy), "percent")
    yield Sample("cpu.iowait_percent", percent(before, now, lambda one: one.iowait), "percent")
    yield Sample("cpu.steal_percent", percent(before, now, lambda one: one.steal), "percent")
