"""What is to be rolled up: hours of agents in which samples arrived, marked by whoever stores them.

A mark is locked by the transaction that sets it until the samples are committed, and by the one that rolls its hour
up until the buckets are. So whoever rolls up sees every sample of a mark that it takes, and a sample that arrives
meanwhile leaves a new mark. Nothing is rolled up twice or never, whichever process dies when.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.resolutions import HOUR_MS, Resolution
from ct_ops_server.store.rollup_tables import horizons, rollups_due
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, now_ms
from ct_ops_server.store.upsert import insert_from

Due = tuple[str, int]
"""An agent's id, and when the hour begins."""

_due = row_set("due", agent_id=sa.Text(), hour_ms=Integer64)
_RAW_FROM = sa.select(horizons.c.from_ms).where(horizons.c.resolution == Resolution.RAW.value)


async def raw_horizon(connection: AsyncConnection) -> int:
    """Return from when on samples are raw ones; older ones are late. It holds while ``series.guard`` is held."""
    return await connection.scalar(_RAW_FROM) or 0


async def mark_due(connection: AsyncConnection, due: Iterable[Due]) -> None:
    """Have these hours rolled up, from their first series on."""
    rows = [{"agent_id": agent_id, "hour_ms": hour_ms} for agent_id, hour_ms in sorted(due)]
    if not rows:
        return
    source = sa.select(*_due.c, now_ms(), sa.literal(0, Integer64))
    names = ("agent_id", "hour_ms", "marked_at", "done_series")
    mark = insert_from(connection, rollups_due, names, source).on_conflict_do_update(
        index_elements=["agent_id", "hour_ms"], set_={"done_series": 0}
    )
    await connection.execute(mark, bind_rows("due", rows))


def ready_at(patience_ms: int) -> sa.ColumnElement[int]:
    """Return when a mark may be taken: its hour is over, and what comes late had time to come together."""
    over, collected = rollups_due.c.hour_ms + HOUR_MS, rollups_due.c.marked_at
    later = sa.case((over > collected, over), else_=collected)
    return later + sa.literal(patience_ms, Integer64)
