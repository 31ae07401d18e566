"""What a run counts. Pure: round trips in seconds come in, figures go out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of ascending values; 0 when there are none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


@dataclass
class Tally:
    """Everything one run counts."""

    registered: int = 0
    registration_s: float = 0.0
    """How long it took until all were registered."""
    beating_s: float = 0.0
    round_trips_s: list[float] = field(default_factory=list)
    """Of every acknowledged heartbeat, first frames of a stream not counted."""
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """How many registrations and streams were refused or broke."""
        return sum(self.failures.values())

    def figures(self) -> dict[str, float | int | dict[str, int]]:
        """Return the figures, rates per second and times in milliseconds."""
        ordered = sorted(self.round_trips_s)
        shown: dict[str, float | int | dict[str, int]] = {
            "agents": self.registered,
            "registrations_per_s": round(self.registered / self.registration_s, 1)
            if self.registration_s
            else 0,
            "heartbeats": len(ordered),
            "heartbeats_per_s": round(len(ordered) / self.beating_s, 1) if self.beating_s else 0,
            "failures": dict(self.failures),
        }
        return shown | {
            f"p{percent:g}_ms": round(percentile(ordered, percent) * 1000, 2) for percent in _PERCENTILES
        }
