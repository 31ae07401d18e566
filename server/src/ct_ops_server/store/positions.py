"""Positions of outboxes: moved by one statement for a whole group, never read before they are moved.

``fleet.delivery.verdict_on`` is the rule. Here it is the WHERE of an UPDATE: two streams of one agent, a
clone, a batch that comes twice meet in the row itself, and exactly one of them moves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.delivery import KEPT_OUTBOXES, BatchNumber, Position
from ct_ops_server.store.delivery_tables import outboxes
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, now_ms
from ct_ops_server.store.upsert import insert_from

Numbered = Mapping[str, BatchNumber]
"""At most one batch of an agent, by the agent's id."""

_COLUMNS = ("agent_id", "outbox_id", "seq", "digest", "stored_at", "turn")
_batch = row_set("batch", agent_id=sa.Text(), outbox_id=sa.Text(), seq=Integer64, digest=sa.Text())
_last = outboxes.alias("last")


def _next_turn(agent_id: sa.ColumnElement[str]) -> sa.ScalarSelect[int]:
    turns = sa.func.coalesce(sa.func.max(_last.c.turn), 0) + 1
    return sa.select(turns).where(_last.c.agent_id == agent_id).scalar_subquery()


_MOVE = (
    outboxes.update()
    .where(
        outboxes.c.agent_id == _batch.c.agent_id,
        outboxes.c.outbox_id == _batch.c.outbox_id,
        outboxes.c.seq == _batch.c.seq - 1,
    )
    .values(
        seq=_batch.c.seq,
        digest=_batch.c.digest,
        stored_at=now_ms(),
        turn=_next_turn(outboxes.c.agent_id),
    )
    .returning(outboxes.c.agent_id)
)
_FIRST = sa.select(
    _batch.c.agent_id,
    _batch.c.outbox_id,
    _batch.c.seq,
    _batch.c.digest,
    now_ms(),
    _next_turn(_batch.c.agent_id),
).where(_batch.c.seq == 1)
_FIND = sa.select(outboxes).where(
    outboxes.c.agent_id == _batch.c.agent_id, outboxes.c.outbox_id == _batch.c.outbox_id
)
_ranked = (
    sa.select(
        outboxes.c.agent_id,
        outboxes.c.outbox_id,
        sa.func.row_number()
        .over(partition_by=outboxes.c.agent_id, order_by=outboxes.c.turn.desc())
        .label("place"),
    )
    .where(outboxes.c.agent_id.in_(sa.bindparam("agents", expanding=True)))
    .subquery()
)
_FORGET = outboxes.delete().where(
    sa.tuple_(outboxes.c.agent_id, outboxes.c.outbox_id).in_(
        sa.select(_ranked.c.agent_id, _ranked.c.outbox_id).where(_ranked.c.place > KEPT_OUTBOXES)
    )
)


async def advance(connection: AsyncConnection, numbered: Numbered) -> frozenset[str]:
    """Move the positions of those whose batch is the next one; return their agents' ids."""
    later = {agent_id: batch for agent_id, batch in numbered.items() if batch.seq > 1}
    first = {agent_id: batch for agent_id, batch in numbered.items() if batch.seq == 1}
    moved: set[str] = set()
    if later:
        moved |= set(await connection.scalars(_MOVE, _bind(later)))
    if first:
        begin = insert_from(connection, outboxes, _COLUMNS, _FIRST).on_conflict_do_nothing()
        begun = set(await connection.scalars(begin.returning(outboxes.c.agent_id), _bind(first)))
        if begun:
            await connection.execute(_FORGET, {"agents": sorted(begun)})
        moved |= begun
    return frozenset(moved)


async def find(connection: AsyncConnection, numbered: Numbered) -> dict[str, Position]:
    """Return the position of each one's outbox, by the agent's id; of an outbox that is not known, 0."""
    found = dict.fromkeys(numbered, Position())
    if numbered:
        rows = await connection.execute(_FIND, _bind(numbered))
        found |= {row.agent_id: Position(row.seq, bytes.fromhex(row.digest)) for row in rows}
    return found


def _bind(numbered: Numbered) -> dict[str, str]:
    rows: Sequence[object] = [
        {
            "agent_id": agent_id,
            "outbox_id": batch.outbox_id.hex(),
            "seq": batch.seq,
            "digest": batch.digest.hex(),
        }
        for agent_id, batch in sorted(numbered.items())
    ]
    return bind_rows("batch", rows)


async def read(connection: AsyncConnection, agent_id: str, outbox_id: bytes) -> Position:
    """Return the position of one outbox."""
    statement = sa.select(outboxes.c.seq, outboxes.c.digest).where(
        outboxes.c.agent_id == agent_id, outboxes.c.outbox_id == outbox_id.hex()
    )
    row = (await connection.execute(statement)).first()
    return Position() if row is None else Position(row.seq, bytes.fromhex(row.digest))
