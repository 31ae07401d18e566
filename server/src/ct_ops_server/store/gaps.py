"""Gaps: what agents had to drop, each stored once, the newest ones kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.delivery import StoredGap
from ct_ops_server.fleet.items import Gap, Owned
from ct_ops_server.store.delivery_tables import gaps
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, now_ms
from ct_ops_server.store.upsert import insert_from
from ct_ops_server.store.values import from_ms

KEPT_GAPS = 200
"""Of one agent. Every new one pushes out the oldest."""

_gap = row_set(
    "gap",
    agent_id=sa.Text(),
    digest=sa.Text(),
    type=sa.Text(),
    items=Integer64,
    from_ms=Integer64,
    to_ms=Integer64,
    reason=sa.Text(),
)
_NAMES = tuple(_gap.c.keys())
_ranked = (
    sa.select(
        gaps.c.agent_id,
        gaps.c.digest,
        sa.func.row_number()
        .over(
            partition_by=gaps.c.agent_id,
            order_by=[gaps.c.recorded_at.desc(), gaps.c.to_ms.desc(), gaps.c.digest],
        )
        .label("place"),
    )
    .where(gaps.c.agent_id.in_(sa.bindparam("agents", expanding=True)))
    .subquery()
)
_FORGET = gaps.delete().where(
    sa.tuple_(gaps.c.agent_id, gaps.c.digest).in_(
        sa.select(_ranked.c.agent_id, _ranked.c.digest).where(_ranked.c.place > KEPT_GAPS)
    )
)


class GapWriter:
    """``store.items.ItemWriter`` for gaps."""

    async def apply(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        """Store those that are new; none is ever refused."""
        rows = {
            (each.agent_id, digest): _row(each.agent_id, digest, each.item)
            for each in owned
            if isinstance(each.item, Gap)
            for digest in [gap_digest(each.item)]
        }
        source = sa.select(*_gap.c, now_ms())
        insert = insert_from(connection, gaps, (*_NAMES, "recorded_at"), source).on_conflict_do_nothing()
        await connection.execute(insert, bind_rows("gap", [rows[key] for key in sorted(rows)]))
        await connection.execute(_FORGET, {"agents": sorted({agent_id for agent_id, _ in rows})})
        return [None] * len(owned)


def gap_digest(gap: Gap) -> str:
    """Return what a gap is known by."""
    return hashlib.sha256(msgspec.json.encode(gap)).hexdigest()


async def read_gaps(connection: AsyncConnection, agent_id: str) -> Sequence[StoredGap]:
    """Return the gaps of an agent, newest first."""
    statement = (
        sa.select(gaps)
        .where(gaps.c.agent_id == agent_id)
        .order_by(gaps.c.recorded_at.desc(), gaps.c.to_ms.desc(), gaps.c.digest)
    )
    return [gap_from(row) for row in await connection.execute(statement)]


def gap_from(row: sa.Row[Any]) -> StoredGap:
    """Return a gap from its row."""
    gap = Gap(
        type=row.type,
        count=row._mapping["items"],  # noqa: SLF001  the documented way to a column by its name
        from_ms=row.from_ms,
        to_ms=row.to_ms,
        reason=row.reason,
    )
    return StoredGap(gap, from_ms(row.recorded_at))


def _row(agent_id: str, digest: str, gap: Gap) -> dict[str, object]:
    return {
        "agent_id": agent_id,
        "digest": digest,
        "type": gap.type,
        "items": gap.count,
        "from_ms": gap.from_ms,
        "to_ms": gap.to_ms,
        "reason": gap.reason,
    }
