"""What a server costs its machine, and whether its event loop keeps up. Looked at once a second.

Figures of our own instead of ``prometheus_client``'s collector of the process, which shows the worker that is
scraped and none of the others.
"""

from __future__ import annotations

import resource
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ct_ops_server.edge.scraping import SUMMED

LOOK_EVERY_S = 1.0
_LATE = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_STATM = Path("/proc/self/statm")


class ProcessMetrics:
    """Figures of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.cpu_seconds = Counter(
            "ct_ops_cpu_seconds", "CPU time of all workers, user and system", registry=registry
        )
        self.resident = Gauge(
            "ct_ops_resident_memory_bytes",
            "Memory of all workers that is in RAM",
            registry=registry,
            multiprocess_mode=SUMMED,
        )
        self.loop_lag = Histogram(
            "ct_ops_event_loop_lag_seconds",
            "How late the event loop comes to a task that is due, looked at each second",
            buckets=_LATE,
            registry=registry,
        )
        self._counted_s = 0.0

    def looked(self, *, late_s: float, cpu_s: float, resident_bytes: int) -> None:
        """Show what was found: ``cpu_s`` since the start of the process."""
        self.loop_lag.observe(max(0.0, late_s))
        self.cpu_seconds.inc(max(0.0, cpu_s - self._counted_s))
        self._counted_s = max(self._counted_s, cpu_s)
        self.resident.set(resident_bytes)


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()
