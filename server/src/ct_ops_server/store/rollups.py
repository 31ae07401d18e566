"""Rolling up: samples to buckets of a minute, an hour and a day, in steps that others can live with.

One step is some series of one agent in one hour, in one transaction: their minutes are made again from the raw
samples, their hour from the minutes, their day from the hours. Made again and not added to, so it does not matter how
often, and a sample that comes a day late is in its buckets after the next step. What is due: ``store.rollups_due``.

Samples older than the raw ones that are kept are the exception: their buckets cannot be made again. They wait in a
table of their own, and a step adds some of them to their buckets and removes them, in one transaction.

Whoever calls these holds ``store.upkeep``'s lock: nobody else rolls up or removes at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import TableValuedAlias

from ct_ops_server.fleet.resolutions import DAY_MS, HOUR_MS, ROLLED, WIDTH_MS, Resolution, start_of
from ct_ops_server.store import buckets
from ct_ops_server.store.rollup_tables import (
    TABLE_OF,
    days,
    horizons,
    hours,
    late_samples,
    minutes,
    rollups_due,
)
from ct_ops_server.store.rollups_due import Due, ready_at
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.sample_tables import samples, series
from ct_ops_server.store.schema import Integer64, now_ms
from ct_ops_server.store.series import guard
from ct_ops_server.store.upsert import insert_from

_wanted = row_set("wanted", id=Integer64)
_from, _to = sa.bindparam("from_ms", type_=Integer64), sa.bindparam("to_ms", type_=Integer64)
_IS_DUE = sa.and_(
    rollups_due.c.agent_id == sa.bindparam("of_agent"), rollups_due.c.hour_ms == sa.bindparam("of_hour")
)
_TAKE = sa.select(rollups_due.c.done_series).where(_IS_DUE).with_for_update(skip_locked=True)
_NEXT_SERIES = (
    sa.select(series.c.id)
    .where(series.c.agent_id == sa.bindparam("of_agent"), series.c.id > sa.bindparam("after"))
    .order_by(series.c.id)
    .limit(sa.bindparam("series"))
)
_ADVANCE = rollups_due.update().where(_IS_DUE).values(done_series=sa.bindparam("done"))
_DONE = rollups_due.delete().where(_IS_DUE)
_HORIZONS = sa.select(horizons.c.resolution, horizons.c.from_ms)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did."""

    series: int
    is_done: bool
    """There is nothing left of what was due."""


async def find_due(
    connection: AsyncConnection, *, patience_ms: int, before_ms: int | None = None, limit: int
) -> Sequence[Due]:
    """Return hours that are ready, the oldest first; ``before_ms``: those before then, ready or not."""
    is_ready = ready_at(patience_ms) <= now_ms() if before_ms is None else rollups_due.c.hour_ms < before_ms
    statement = sa.select(rollups_due.c.agent_id, rollups_due.c.hour_ms).where(is_ready)
    ordered = statement.order_by(rollups_due.c.hour_ms, rollups_due.c.agent_id).limit(limit)
    return [(row.agent_id, row.hour_ms) for row in await connection.execute(ordered)]


async def find_lag_ms(connection: AsyncConnection, *, patience_ms: int) -> int:
    """Return since when the hour that has been ready longest is ready; 0: none is."""
    oldest = sa.select(now_ms() - sa.func.min(ready_at(patience_ms)))
    return max(0, await connection.scalar(oldest) or 0)


async def roll_up(connection: AsyncConnection, due: Due, *, most_series: int) -> Step:
    """Roll up some series of an hour that is due."""
    key = _key(due)
    done = await connection.scalar(_TAKE, key)
    if done is None:  # rolled up meanwhile, or its agent is delivering into it at this moment
        return Step(0, is_done=True)
    which = key | {"after": done, "series": most_series}
    ids = list(await connection.scalars(_NEXT_SERIES, which))
    if ids:
        await _make_buckets(connection, ids, due[1])
    is_done = len(ids) < most_series
    await connection.execute(_DONE if is_done else _ADVANCE, key if is_done else key | {"done": ids[-1]})
    return Step(len(ids), is_done)


async def give_up(connection: AsyncConnection, due: Due) -> None:
    """Roll up no more of an hour, until samples come for it again: the database refuses it."""
    await connection.execute(_DONE, _key(due))


def _key(due: Due) -> dict[str, Any]:
    return {"of_agent": due[0], "of_hour": due[1]}


async def _make_buckets(connection: AsyncConnection, ids: Sequence[int], hour_ms: int) -> None:
    day_ms = start_of(hour_ms, DAY_MS)
    of_hour, of_day = _between(hour_ms, HOUR_MS), _between(day_ms, DAY_MS)
    wanted = bind_rows("wanted", [{"id": each} for each in ids])
    made = ((minutes, _MINUTES, of_hour), (hours, _HOURS, of_hour), (days, _DAYS, of_day))
    for table, source, times in made:
        insert = insert_from(connection, table, buckets.NAMES, source)
        await connection.execute(
            insert.on_conflict_do_update(
                index_elements=["series_id", "ts_ms"], set_=buckets.replaced(insert.excluded)
            ),
            wanted | times,
        )


def _between(start_ms: int, width_ms: int) -> dict[str, Any]:
    return {"from_ms": start_ms, "to_ms": start_ms + width_ms}


def _inside(source: sa.Table, wanted: TableValuedAlias, select: sa.Select[Any]) -> sa.Select[Any]:
    # By IN and not by a join: on SQLite that took half the time where it was measured.
    is_wanted = source.c.series_id.in_(sa.select(wanted.c.id))
    return select.where(is_wanted, source.c.ts_ms >= _from, source.c.ts_ms < _to)


_MINUTES = _inside(samples, _wanted, buckets.of_samples(samples, WIDTH_MS[Resolution.MINUTE]))
_HOURS = _inside(minutes, _wanted, buckets.of_buckets(minutes, WIDTH_MS[Resolution.HOUR]))
_DAYS = _inside(hours, _wanted, buckets.of_buckets(hours, WIDTH_MS[Resolution.DAY]))

_late = late_samples.c
_BOUNDARY = (
    sa.select(_late.series_id, _late.ts_ms)
    .order_by(_late.series_id, _late.ts_ms)
    .offset(sa.bindparam("samples"))
    .limit(1)
)
_ANY_LATE = sa.select(sa.exists().where(_late.series_id.is_not(None)))


async def add_late(connection: AsyncConnection, *, most_samples: int) -> int:
    """Add some late samples to their buckets; return how many."""
    if not await connection.scalar(_ANY_LATE):
        return 0
    await guard(connection, alone=True)  # one that came between adding and removing would be lost
    boundary = (await connection.execute(_BOUNDARY, {"samples": most_samples})).first()
    piece = sa.true() if boundary is None else sa.tuple_(_late.series_id, _late.ts_ms) < sa.tuple_(*boundary)
    kept = {row.resolution: row.from_ms for row in await connection.execute(_HORIZONS)}
    for resolution in ROLLED:
        # Where buckets are gone, none begins anew: it would be gone in a moment, and lie till then.
        is_kept = _late.ts_ms >= kept.get(resolution, 0)
        source = buckets.of_samples(late_samples, WIDTH_MS[resolution]).where(piece, is_kept)
        table = TABLE_OF[resolution]
        insert = insert_from(connection, table, buckets.NAMES, source)
        await connection.execute(
            insert.on_conflict_do_update(
                index_elements=["series_id", "ts_ms"], set_=buckets.added(table, insert.excluded)
            )
        )
    return (await connection.execute(late_samples.delete().where(piece))).rowcount
