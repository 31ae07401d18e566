"""What operators read of the samples that arrived: which series an agent has, and their values.

A name is what a collector calls a value (``disk.used_bytes``); each combination of labels is a series of
its own (``disk.used_bytes{mount="/"}``). Operators may say either. A name that an agent does not have is
answered with those that are like it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Protocol

from ct_ops_server.fleet.resolutions import KEEPING, Keeping, Resolution

MOST_POINTS = 10_000
"""In one answer."""

_SUGGESTED = 3


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many samples one point stands for, and between which values they lie."""

    samples: int
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a time, by the agent's clock."""

    at: datetime
    value: float
    bucket: Bucket | None = None
    """Of a coarser resolution: what it stands for; its value is the mean."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an agent."""

    text: str
    name: str
    unit: str
    latest: Point | None
    """None: what it had is older than is kept."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A series over some time, oldest first."""

    text: str
    unit: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """The answer to a question for a name."""

    curves: tuple[Curve, ...]
    is_cut: bool
    """There was more: these are the newest."""
    resolution: Resolution = Resolution.RAW


class SampleStore(Protocol):
    """Where samples are read; ``store.sample_reading`` and ``tests/fakes`` implement it."""

    async def series(self, agent_id: str) -> Sequence[Series]:
        """Return an agent's series by their text, each with its newest sample."""

    async def curves(
        self,
        agent_id: str,
        texts: Collection[str],
        *,
        since: datetime,
        until: datetime,
        limit: int,
        resolution: Resolution = Resolution.RAW,
    ) -> Curves:
        """Return these series between two times, both included; the newest ``limit`` samples of them all.

        Of a coarser resolution: buckets from that on in which ``since`` lies, also of what is not rolled up yet.

        Series without samples in that time have no points.
        """


class NoSuchSeriesError(Exception):
    """The agent has nothing of that name. ``str()`` is a sentence for operators."""

    def __init__(self, hostname: str, wanted: str, there: Collection[str]) -> None:
        super().__init__(_not_found(hostname, wanted, there))


class SampleDesk:
    """Where operators read samples."""

    def __init__(
        self,
        store: SampleStore,
        *,
        keeping: Keeping = KEEPING,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._keeping = keeping
        self._now = now

    async def series(self, agent_id: str) -> Sequence[Series]:
        """Return an agent's series by their text, each with its newest sample."""
        return await self._store.series(agent_id)

    async def curves(
        self,
        agent_id: str,
        hostname: str,
        wanted: str,
        *,
        since: datetime,
        until: datetime,
        resolution: Resolution | None = None,
    ) -> Curves:
        """Return what an agent delivered under a name, or of one series; in the resolution that suits the time.

        Raises:
            NoSuchSeriesError: it has nothing like that.
            ValueError: the times are the wrong way round.
        """
        if since > until:
            raise ValueError("the time asked for ends before it begins: --since is the earlier one")
        there = await self._store.series(agent_id)
        texts = [each.text for each in there if wanted in {each.text, each.name}]
        if not texts:
            raise NoSuchSeriesError(hostname, wanted, {each.name for each in there})
        best = resolution or self._keeping.best(since, until, self._now())
        return await self._store.curves(
            agent_id, texts, since=since, until=until, limit=MOST_POINTS, resolution=best
        )


def _not_found(hostname: str, wanted: str, there: Collection[str]) -> str:
    if not there:
        return f"{hostname} has delivered no samples"
    name = wanted.partition("{")[0]
    if name in there and name != wanted:
        return f"{hostname} has {name}, but not with these labels; see: ct-ops-server samples {hostname}"
    begun = sorted(each for each in there if name and (each.startswith(name) or f".{name}" in each))
    like = list(dict.fromkeys([*begun, *get_close_matches(name, sorted(there), _SUGGESTED)]))[:_SUGGESTED]
    if like:
        return f"{hostname} has no samples named {wanted}; did you mean {' or '.join(like)}?"
    return f"{hostname} has no samples named {wanted}; see: ct-ops-server samples {hostname}"
