"""Deliveries stored in memory: the same contract suite as the real ones, and a server for simulations.

``snapshot`` and ``restore`` take it back in time, as a restored backup does; ``items`` is what it holds.
Nothing here awaits, so every method is atomic by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ct_ops_server.fleet.delivery import (
    FENCED,
    KEPT_OUTBOXES,
    Delivered,
    Delivery,
    Position,
    RefusedItems,
    StoredGap,
    Verdict,
    verdict_on,
)
from ct_ops_server.fleet.items import (
    CheckResult,
    Gap,
    Item,
    ItemRefused,
    QueryResult,
    Sample,
    TaskAccepted,
    TaskProgress,
    TaskResult,
)
from ct_ops_server.fleet.resolutions import WIDTH_MS, Resolution, start_of
from ct_ops_server.fleet.samples import Bucket, Curve, Curves, Point, Series
from ct_ops_server.store.gaps import KEPT_GAPS
from ct_ops_server.store.item_refusals import Refused, refused_item


@dataclass
class MemoryState:
    """What a backup of this server would hold."""

    positions: dict[str, dict[bytes, Position]] = field(default_factory=dict)
    """By agent, then by outbox, the one used last at the end."""
    items: dict[tuple[object, ...], tuple[str, Item]] = field(default_factory=dict)
    """By content key: the agent and what it delivered."""
    gaps: dict[str, dict[Gap, datetime]] = field(default_factory=dict)
    refused: dict[tuple[str, str, str], RefusedItems] = field(default_factory=dict)


class MemoryDeliveries:
    """``fleet.delivery.DeliveryStore`` and ``fleet.samples.SampleStore`` in dictionaries."""

    load = 0.0

    def __init__(
        self,
        is_current: Callable[[str, int], bool] = lambda _agent, _generation: True,
        *,
        refuses: Callable[[str, Item], str | None] = lambda _agent, _item: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._is_current = is_current
        self._refuses = refuses
        self._now = now
        self.state = MemoryState()

    def snapshot(self) -> MemoryState:
        """Return a backup."""
        return copy.deepcopy(self.state)

    def restore(self, backup: MemoryState) -> None:
        """Go back to a backup."""
        self.state = copy.deepcopy(backup)

    def items(self, agent_id: str) -> list[Item]:
        """Return what an agent delivered, in the order of its first arrival; without gaps."""
        return [item for owner, item in self.state.items.values() if owner == agent_id]

    async def deliver(self, delivery: Delivery) -> Delivered:
        if not self._is_current(delivery.agent_id, delivery.generation):
            return FENCED
        number, reached = delivery.number, Position()
        if number is not None:
            found = await self.position(delivery.agent_id, number.outbox_id)
            if (verdict := verdict_on(number, found)) is not None:
                return Delivered(verdict, found)
            reached = Position(number.seq, number.digest)
            self._advance(delivery.agent_id, number.outbox_id, reached)
        refused = sorted(self._store(delivery), key=lambda each: each.index)
        return Delivered(Verdict.STORED, reached, tuple(refused), is_new=True)

    async def position(self, agent_id: str, outbox_id: bytes) -> Position:
        return self.state.positions.get(agent_id, {}).get(outbox_id, Position())

    async def gaps(self, agent_id: str) -> Sequence[StoredGap]:
        kept = self.state.gaps.get(agent_id, {})
        return [StoredGap(gap, at) for gap, at in reversed(kept.items())]

    async def refused_items(self, agent_id: str) -> Sequence[RefusedItems]:
        theirs = [each for (owner, _, _), each in self.state.refused.items() if owner == agent_id]
        return sorted(theirs, key=lambda each: each.last_at, reverse=True)

    # SampleStore

    async def series(self, agent_id: str) -> Sequence[Series]:
        newest: dict[str, Sample] = {}
        for sample in self._samples(agent_id):
            if sample.series not in newest or sample.at_ms > newest[sample.series].at_ms:
                newest[sample.series] = sample
        return [
            Series(text, text.partition("{")[0], newest[text].unit, _point(newest[text]))
            for text in sorted(newest)
        ]

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
        there = [each for each in await self.series(agent_id) if each.text in texts]
        if resolution is not Resolution.RAW:
            since = datetime.fromtimestamp(
                start_of(int(since.timestamp() * 1_000), WIDTH_MS[resolution]) / 1_000, UTC
            )
        inside = [
            (point.at, text, point)
            for text, point in self._points(agent_id, resolution)
            if text in texts and since <= point.at <= until
        ]
        kept = sorted(inside, key=lambda each: each[:2])[-limit:]
        curves = [
            Curve(each.text, each.unit, tuple(point for _, text, point in kept if text == each.text))
            for each in there
        ]
        return Curves(tuple(curves), is_cut=len(inside) > limit, resolution=resolution)

    def _points(self, agent_id: str, resolution: Resolution) -> Iterator[tuple[str, Point]]:
        if resolution is Resolution.RAW:
            yield from ((sample.series, _point(sample)) for sample in self._samples(agent_id))
            return
        values: dict[tuple[str, int], list[float]] = {}
        for sample in self._samples(agent_id):
            at_ms = start_of(sample.at_ms, WIDTH_MS[resolution])
            values.setdefault((sample.series, at_ms), []).append(sample.value)
        for (text, at_ms), every in values.items():
            bucket = Bucket(len(every), min(every), max(every))
            mean = sum(every) / len(every)
            yield text, Point(datetime.fromtimestamp(at_ms / 1_000, UTC), mean, bucket)

    def _samples(self, agent_id: str) -> list[Sample]:
        return [item for item in self.items(agent_id) if isinstance(item, Sample)]

    def _advance(self, agent_id: str, outbox_id: bytes, reached: Position) -> None:
        kept = self.state.positions.setdefault(agent_id, {})
        kept.pop(outbox_id, None)
        kept[outbox_id] = reached
        while len(kept) > KEPT_OUTBOXES:
            del kept[next(iter(kept))]

    def _store(self, delivery: Delivery) -> Iterator[ItemRefused]:
        agent_id = delivery.agent_id
        for each in delivery.malformed:
            self._record(Refused(agent_id, each.kind, each.reason, each.example))
            yield ItemRefused(each.index, each.reason)
        for index, item in delivery.items:
            if isinstance(item, Gap):
                self._keep_gap(agent_id, item)
            elif (reason := self._refuses(agent_id, item)) is not None:
                self._record(refused_item(agent_id, item, reason))
                yield ItemRefused(index, reason)
            else:
                self.state.items.setdefault(content_key(agent_id, item), (agent_id, item))

    def _keep_gap(self, agent_id: str, gap: Gap) -> None:
        kept = self.state.gaps.setdefault(agent_id, {})
        kept.setdefault(gap, self._now())
        while len(kept) > KEPT_GAPS:
            del kept[next(iter(kept))]

    def _record(self, refused: Refused) -> None:
        key, now = (refused.agent_id, refused.kind, refused.reason), self._now()
        before = self.state.refused.get(key, RefusedItems(refused.kind, refused.reason, 0, now, now, ""))
        self.state.refused[key] = replace(
            before, count=before.count + 1, last_at=now, example=refused.example
        )


def _point(sample: Sample) -> Point:
    return Point(datetime.fromtimestamp(sample.at_ms / 1_000, UTC), sample.value)


def content_key(agent_id: str, item: Item) -> tuple[object, ...]:  # noqa: PLR0911 - one return a type
    """Return what a repeated item is known by: ``fleet.items``."""
    match item:
        case Sample():
            return ("sample", agent_id, item.series, item.at_ms)
        case CheckResult():
            return ("check", item.check_id, item.ran_at_ms)
        case QueryResult():
            return ("query", item.query_id)
        case TaskAccepted():
            return ("accepted", item.task_id, item.attempt)
        case TaskProgress():
            return ("progress", item.task_id, item.attempt, item.offset)
        case TaskResult():
            return ("result", item.task_id, item.attempt)
        case Gap():
            return ("gap", agent_id, item)
