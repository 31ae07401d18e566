"""Samples on their way home: what collectors yielded, in the form that is kept and sent."""

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
