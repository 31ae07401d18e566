"""Series that nobody delivers any more: retired, and in time removed with everything of theirs, piece by piece.

A series without raw samples is *retired*: it does not count towards its agent's limit any more, its buckets are still
read. When it comes back it is taken up again. One that stays away, or whose agent was deleted, is removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.rollup_tables import TABLE_OF, late_samples
from ct_ops_server.store.sample_tables import samples, series
from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.series import guard

_ids: sa.BindParameter[int] = sa.bindparam("ids", expanding=True)
_NEXT = (
    sa.select(series.c.id)
    .where(series.c.id > sa.bindparam("after"))
    .order_by(series.c.id)
    .limit(sa.bindparam("series"))
)
_RETIRE = (
    series.update()
    .where(
        series.c.id.in_(_ids),
        series.c.retired_at.is_(None),
        sa.not_(
            sa.exists().where(samples.c.series_id == series.c.id, samples.c.ts_ms >= sa.bindparam("horizon"))
        ),
    )
    .values(retired_at=now_ms())
)
_NOBODYS = sa.select(series.c.id).where(series.c.agent_id.is_(None)).limit(sa.bindparam("series"))
_AWAY = (
    sa.select(series.c.id)
    .where(
        series.c.retired_at < now_ms() - sa.bindparam("keep_ms"),
        sa.not_(sa.exists().where(late_samples.c.series_id == series.c.id)),
        sa.not_(
            sa.exists().where(samples.c.series_id == series.c.id, samples.c.ts_ms >= sa.bindparam("horizon"))
        ),
    )
    .limit(sa.bindparam("series"))
)
_TABLES = (*TABLE_OF.values(), late_samples)


@dataclass(frozen=True, slots=True)
class Walked:
    """What one step of a walk through all series did."""

    last: int | None
    """Where to go on; None: that was the end."""
    removed: Mapping[str, int] = field(default_factory=dict)
    """Rows by table."""


async def old_rows_of(
    connection: AsyncConnection, table: sa.Table, ids: Sequence[int], *, before_ms: int, limit: int
) -> int:
    """Remove a piece of what these series have from before a time; each has it at the front of its index."""
    old = (
        sa.select(table.c.series_id, table.c.ts_ms)
        .where(table.c.series_id.in_(_ids), table.c.ts_ms < sa.bindparam("before"))
        .limit(sa.bindparam("rows"))
    )
    statement = table.delete().where(sa.tuple_(table.c.series_id, table.c.ts_ms).in_(old))
    result = await connection.execute(statement, {"ids": ids, "before": before_ms, "rows": limit})
    return result.rowcount


async def next_series(connection: AsyncConnection, *, after: int, limit: int) -> list[int]:
    """Return the ids of the next series of a walk."""
    return list(await connection.scalars(_NEXT, {"after": after, "series": limit}))


async def retire(connection: AsyncConnection, ids: Sequence[int], *, horizon_ms: int) -> int:
    """Retire those of these series that have no raw samples any more; return how many."""
    return (await connection.execute(_RETIRE, {"ids": ids, "horizon": horizon_ms})).rowcount


async def remove_left(
    connection: AsyncConnection, *, keep_ms: int, horizon_ms: int, series_at_once: int, rows: int
) -> dict[str, int] | None:
    """Remove a piece of what belongs to nobody, or to who was away for too long; None: there is nothing.

    Returns:
        How many rows were removed, by table.
    """
    which = {"keep_ms": keep_ms, "horizon": horizon_ms, "series": series_at_once}
    ids = list(await connection.scalars(_NOBODYS, {"series": series_at_once}))
    ids = ids or list(await connection.scalars(_AWAY, which))
    if not ids:
        return None
    removed: dict[str, int] = {}
    for table in _TABLES:
        count = await old_rows_of(connection, table, ids, before_ms=2**63 - 1, limit=rows)
        removed[table.name] = count
        if count >= rows:
            return removed  # there may be more of these
    # Looked for again when nobody can add to them any more.
    await guard(connection, alone=True)
    empty = [sa.not_(sa.exists().where(table.c.series_id == series.c.id)) for table in _TABLES]
    gone = await connection.execute(series.delete().where(series.c.id.in_(_ids), *empty), {"ids": ids})
    return removed | {series.name: gone.rowcount}
