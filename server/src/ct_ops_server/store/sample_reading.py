"""Samples as operators read them: ``fleet.samples.SampleStore``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.resolutions import Resolution
from ct_ops_server.fleet.samples import Curve, Curves, Point, Series
from ct_ops_server.store.bucket_reading import Asked, read_buckets
from ct_ops_server.store.database import Database
from ct_ops_server.store.sample_tables import samples, series
from ct_ops_server.store.values import from_ms, to_ms

_of_series = samples.alias("of_series")
_NEWEST = (
    sa.select(sa.func.max(_of_series.c.ts_ms)).where(_of_series.c.series_id == series.c.id).scalar_subquery()
)
_LATEST = (
    sa.select(series.c.text, series.c.name, series.c.unit, samples.c.ts_ms, samples.c.value)
    .outerjoin_from(series, samples, sa.and_(samples.c.series_id == series.c.id, samples.c.ts_ms == _NEWEST))
    .where(series.c.agent_id == sa.bindparam("agent_id"))
)


class SqlSampleStore:
    """``fleet.samples.SampleStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def series(self, agent_id: str) -> Sequence[Series]:
        """Return an agent's series by their text, each with its newest sample."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(_LATEST, {"agent_id": agent_id})).all()
        # Sorted here: databases sort text by the rules of some language.
        return sorted((_series(row) for row in rows), key=lambda each: each.text)

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
        """Return these series between two times; the newest ``limit`` samples or buckets of them all."""
        wanted = sa.select(series).where(series.c.agent_id == agent_id, series.c.text.in_(texts))
        asked = Asked(agent_id, to_ms(since), to_ms(until), limit + 1)
        async with self._database.reading() as connection:
            found = {row.id: row for row in await connection.execute(wanted)}
            if resolution is Resolution.RAW:
                points = await _raw_points(connection, list(found), asked)
            else:
                points = await read_buckets(connection, list(found), asked, resolution)
        of_series: defaultdict[int, list[Point]] = defaultdict(list)
        for series_id, point in reversed(points[:limit]):
            of_series[series_id].append(point)
        return Curves(
            tuple(
                Curve(each.text, each.unit, tuple(of_series[each.id]))
                for each in sorted(found.values(), key=lambda each: str(each.text))
            ),
            is_cut=len(points) > limit,
            resolution=resolution,
        )


async def _raw_points(
    connection: AsyncConnection, ids: Sequence[int], asked: Asked
) -> list[tuple[int, Point]]:
    statement = (
        sa.select(samples)
        .where(samples.c.series_id.in_(ids), samples.c.ts_ms.between(asked.since_ms, asked.until_ms))
        .order_by(samples.c.ts_ms.desc(), samples.c.series_id)
        .limit(asked.limit)
    )
    return [
        (row.series_id, Point(from_ms(row.ts_ms), row.value)) for row in await connection.execute(statement)
    ]


def _series(row: Any) -> Series:
    latest = None if row.ts_ms is None else Point(from_ms(row.ts_ms), row.value)
    return Series(row.text, row.name, row.unit, latest)
