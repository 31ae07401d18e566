"""Samples on their way home: what collectors yielded, in the form that is kept and sent; and who yields them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TimedSample:
    """One value of a series at one time."""

    series: str
    """Canonical: ``ct_ops_proto.series``."""

    at_ms: int
    """Unix milliseconds."""

    value: float
    """Finite."""

    unit: str = ""


class TakesSamples(Protocol):
    """Where samples go: `delivery`. Safe to call from any task of the event loop."""

    async def put_samples(self, samples: Sequence[TimedSample]) -> None:
        """Keep the samples of one run of one collector until they are acknowledged."""


@dataclass(frozen=True, slots=True)
class CollectorState:
    """Whether a collector of this host works."""

    name: str
    interval_s: float
    problem: str = ""
    """One sentence for operators; empty: it works."""


class KnowsCollectors(Protocol):
    """Knows which collectors run here: `gathering`."""

    def states(self) -> tuple[CollectorState, ...]:
        """Return them in a stable order; two equal answers mean that nothing has changed."""
