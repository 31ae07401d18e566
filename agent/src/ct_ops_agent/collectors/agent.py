"""The agent itself: what it costs this host, and what each of its collectors costs.

Whoever runs a program on every host has to show what it takes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from ct_ops_agent.collector import (
    About,
    AgentFacts,
    Collector,
    CollectorError,
    Missing,
    Rates,
    Reading,
    Sample,
    SampleDoc,
    Settings,
)

_KIB = 1024


def parse_status(text: str) -> dict[str, int]:
    """Return the sizes of ``/proc/self/status`` in bytes."""
    found = {}
    for line in text.split("\n"):
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdecimal():
            found[name] = int(words[0]) * _KIB
    return found


class Agent(Collector[Settings]):
    """Collector ``agent``."""

    about = About(
        name="agent",
        summary="The agent's own processor time, memory, threads and outbox, and the cost of each collector.",
        reads="`/proc/self/status`, `/proc/self/fd`, its own clocks",
        cost="0.3 ms a run",
        interval=timedelta(minutes=2),
        samples=(
            SampleDoc("agent.cpu_percent", "percent", "of one processor, since the run before"),
            SampleDoc("agent.memory_bytes", "bytes", "resident"),
            SampleDoc(
                "agent.anonymous_bytes", "bytes", "of it not backed by files: what it takes from others"
            ),
            SampleDoc("agent.threads", "", "of Python; gRPC has some of its own"),
            SampleDoc("agent.open_files", "", "descriptors in use"),
            SampleDoc("agent.outbox_bytes", "bytes", "kept until delivered, or for a while after"),
            SampleDoc(
                "agent.collector_cpu_percent",
                "percent",
                "of one processor, since the run before",
                ("collector",),
            ),
            SampleDoc("agent.collector_seconds", "s", "how long its last run took", labels=("collector",)),
        ),
    )

    def __init__(
        self,
        settings: Settings,
        proc: Path = Path("/proc/self"),
        cpu_seconds: Callable[[], float] = time.process_time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            settings: none of its own.
            proc: the kernel's folder of this process.
            cpu_seconds: what this process has used of the processors.
            monotonic: seconds of a clock that never goes back.
        """
        super().__init__(settings)
        self._proc = proc
        self._cpu_seconds = cpu_seconds
        self._monotonic = monotonic
        self._rates = Rates()
        self._agent: AgentFacts | None = None

    def know(self, agent: AgentFacts) -> None:
        """Keep whom to ask (`collector.WantsAgentFacts`)."""
        self._agent = agent

    def collect(self) -> Iterator[Reading]:
        """Look at this process."""
        now_s = self._monotonic()
        yield from self._share("agent.cpu_percent", "process", self._cpu_seconds(), now_s, {})
        yield from self._memory()
        yield Sample("agent.threads", threading.active_count())
        yield from self._open_files()
        yield from self._own_facts(now_s)
        self._rates.end_of_run()

    def _open_files(self) -> Iterator[Reading]:
        try:
            count = len(os.listdir(self._proc / "fd"))  # noqa: PTH208  a count is enough
        except OSError as error:
            yield Missing(
                "agent.open_files", f"{self._proc}/fd cannot be read: {error.strerror}; is /proc hidden?"
            )
            return
        yield Sample("agent.open_files", count)

    def _memory(self) -> Iterator[Reading]:
        try:
            sizes = parse_status((self._proc / "status").read_text())
        except OSError as error:
            raise CollectorError(f"{self._proc}/status cannot be read: {error.strerror}") from error
        for field, name in (("VmRSS", "memory"), ("RssAnon", "anonymous")):
            if field in sizes:
                yield Sample(f"agent.{name}_bytes", sizes[field], "bytes")

    def _own_facts(self, now_s: float) -> Iterator[Reading]:
        if self._agent is None:
            return
        yield Sample("agent.outbox_bytes", self._agent.outbox_bytes(), "bytes")
        for cost in self._agent.costs():
            labels = {"collector": cost.name}
            yield Sample("agent.collector_seconds", cost.duration_s, "s", labels)
            yield from self._share("agent.collector_cpu_percent", cost.name, cost.cpu_s, now_s, labels)

    def _share(
        self, name: str, counter: str, cpu_s: float, now_s: float, labels: dict[str, str]
    ) -> Iterator[Reading]:
        rate = self._rates.per_second(f"{name} {counter}", cpu_s, now_s)
        if rate is not None:
            yield Sample(name, 100.0 * rate, "percent", labels)
