"""Buckets as operators read them: those that are rolled up, and those of hours that are still due, made for the reader.

So an answer is the same before an hour is rolled up and after. Nothing is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.resolutions import HOUR_MS, WIDTH_MS, Resolution, start_of
from ct_ops_server.fleet.samples import Bucket, Point
from ct_ops_server.store.buckets import of_samples
from ct_ops_server.store.rollup_tables import TABLE_OF, hours, rollups_due
from ct_ops_server.store.sample_tables import samples
from ct_ops_server.store.values import from_ms


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose, from when to when, and how many at most."""

    agent_id: str
    since_ms: int
    until_ms: int
    limit: int


async def read_buckets(
    connection: AsyncConnection, ids: Sequence[int], asked: Asked, resolution: Resolution
) -> list[tuple[int, Point]]:
    """Return buckets of series, the newest first."""
    width, table = WIDTH_MS[resolution], TABLE_OF[resolution]
    span = max(width, HOUR_MS)
    begin = start_of(asked.since_ms, width)
    due = await _due_hours(connection, asked.agent_id, start_of(begin, span), asked.until_ms)
    stale = {start_of(hour, span) for hour in due}
    rolled = (
        sa.select(table)
        .where(table.c.series_id.in_(ids), table.c.ts_ms.between(begin, asked.until_ms))
        .order_by(table.c.ts_ms.desc(), table.c.series_id)
        .limit(asked.limit + len(ids) * len(stale) * span // width)
    )
    rows = [row for row in await connection.execute(rolled) if start_of(row.ts_ms, span) not in stale]
    points = [(row.series_id, _point(row.ts_ms, [row])) for row in rows]
    points += [
        each
        for start in stale
        for each in await _made_now(
            connection, ids, start, {hour for hour in due if start_of(hour, span) == start}, width
        )
        if from_ms(begin) <= each[1].at <= from_ms(asked.until_ms)
    ]
    return sorted(points, key=lambda each: (each[1].at, -each[0]), reverse=True)[: asked.limit]


async def _due_hours(connection: AsyncConnection, agent_id: str, begin_ms: int, end_ms: int) -> set[int]:
    hour = rollups_due.c.hour_ms
    statement = sa.select(hour).where(rollups_due.c.agent_id == agent_id, hour.between(begin_ms, end_ms))
    return set(await connection.scalars(statement))


async def _made_now(
    connection: AsyncConnection, ids: Sequence[int], start_ms: int, due: set[int], width_ms: int
) -> list[tuple[int, Point]]:
    """Make the buckets of an hour, or of a day from its hours, as rolling up will."""
    of_key: defaultdict[tuple[int, int], list[Any]] = defaultdict(list)
    for hour in sorted(due):
        fresh = of_samples(samples, min(width_ms, HOUR_MS)).where(
            samples.c.series_id.in_(ids), samples.c.ts_ms >= hour, samples.c.ts_ms < hour + HOUR_MS
        )
        for row in await connection.execute(fresh):
            of_key[row.series_id, start_of(row.ts_ms, width_ms)].append(row)
    if width_ms > HOUR_MS:
        done = sa.select(hours).where(
            hours.c.series_id.in_(ids), hours.c.ts_ms >= start_ms, hours.c.ts_ms < start_ms + width_ms
        )
        for row in await connection.execute(done):
            if row.ts_ms not in due:
                of_key[row.series_id, start_ms].append(row)
    return [(series_id, _point(at_ms, rows)) for (series_id, at_ms), rows in of_key.items()]


def _point(at_ms: int, rows: Iterable[Any]) -> Point:
    every = [(row.samples, row.lowest, row.highest, row.mean) for row in rows]
    count = sum(each[0] for each in every)
    lowest, highest = min(each[1] for each in every), max(each[2] for each in every)
    mean = sum(each[3] * (each[0] / count) for each in every)
    return Point(from_ms(at_ms), min(max(mean, lowest), highest), Bucket(count, lowest, highest))
