"""The sides of agents, as they are read and written in the transaction that opens their streams.

One row an agent, whatever happens to it: a document of at most ``MOST_SIDES`` sides. ``look`` locks the
agents' rows, so that of two nodes the second one sees what the first has written; nothing is kept in the
memory of a process. ``fleet.sides`` judges; a clone is quarantined in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet import decisions
from ct_ops_server.fleet.model import AgentStatus, StreamOpening
from ct_ops_server.fleet.sides import (
    SENTENCES,
    Judged,
    SideLog,
    Sight,
    is_served,
    judge,
    key_followed,
    needs_history,
    quarantined,
)
from ct_ops_server.store.agents import append_history, set_status
from ct_ops_server.store.audit import append
from ct_ops_server.store.delivery_tables import outboxes
from ct_ops_server.store.endings import append_ending
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Document, agents, now_ms
from ct_ops_server.store.side_tables import agent_sides
from ct_ops_server.store.upsert import upsert_from
from ct_ops_server.store.values import status_from

CLONES_ACTOR = "clone detection"

_decoder = msgspec.json.Decoder(SideLog)
_wanted = row_set("wanted", agent_id=sa.Text())
_LOOK = (
    sa.select(
        agents.c.id,
        agents.c.status,
        agents.c.key_id,
        agents.c.online,
        agent_sides.c.document,
        now_ms().label("now_ms"),
    )
    .select_from(agents.outerjoin(agent_sides, agent_sides.c.agent_id == agents.c.id))
    .where(agents.c.id.in_(sa.select(_wanted.c.agent_id)))
    .order_by(agents.c.id)
    .with_for_update(of=agents)
)
_logs = row_set("logs", agent_id=sa.Text(), document=Document)
_asked = row_set("asked", agent_id=sa.Text(), outbox_id=sa.Text())
_STORED = sa.select(outboxes.c.agent_id, outboxes.c.seq).join(
    _asked, sa.and_(outboxes.c.agent_id == _asked.c.agent_id, outboxes.c.outbox_id == _asked.c.outbox_id)
)


@dataclass(frozen=True, slots=True)
class Found:
    """An agent's row before its stream opens."""

    status: AgentStatus
    key_id: str
    online: bool
    log: SideLog
    now_ms: int
    """By the database's clock, when the row was read."""

    def serves(self, opening: StreamOpening) -> bool:
        """Tell whether a split, if there was one, leaves this side the agent: else not even its key counts."""
        if opening.key_id != self.key_id:
            return opening.key_id not in self.log.split_keys
        return is_served(self.log, opening.side)

    def must_rotate(self, opening: StreamOpening) -> bool:
        """Tell whether whoever opens this stream shall have a key that no copy holds."""
        return self.log.kept is not None and opening.side is not None and bool(opening.side.process_id)

    def is_quarantined_with(self, key_id: str) -> bool:
        """Tell whether whoever shows this key is one of the sides of a clone."""
        return self.status is AgentStatus.QUARANTINED and self.key_id == key_id


async def look(connection: AsyncConnection, openings: Sequence[StreamOpening]) -> dict[str, Found]:
    """Return the rows of those who want a stream, by their ids, locked until the commit."""
    wanted = bind_rows("wanted", [{"agent_id": opening.agent_id} for opening in openings])
    rows = await connection.execute(_LOOK, wanted)
    return {
        row.id: Found(
            status_from(row.status), row.key_id, bool(row.online), decode_log(row.document), row.now_ms
        )
        for row in rows
    }


async def note(
    connection: AsyncConnection, openings: Sequence[StreamOpening], found: Mapping[str, Found]
) -> frozenset[str]:
    """Write down who opened streams; quarantine the clones among them, and return these.

    Args:
        connection: inside the transaction that has opened them.
        openings: those that are evidence: of streams that opened, and of agents in quarantine.
        found: their agents' rows as they were before.
    """
    told = [each for each in openings if each.side is not None]
    stored = await _stored(connection, told, found)
    judged = {
        each.agent_id: judge(found[each.agent_id].log, _sight(each, found[each.agent_id], stored))
        for each in told
    }
    clones = {agent_id: verdict for agent_id, verdict in judged.items() if verdict.proof is not None}
    logs = {agent_id: verdict.log for agent_id, verdict in judged.items() if verdict.is_news}
    for agent_id, verdict in sorted(clones.items()):
        logs[agent_id] = await _quarantine(connection, agent_id, verdict, found[agent_id].now_ms)
    await store_logs(connection, logs)
    return frozenset(clones)


async def store_logs(connection: AsyncConnection, logs: Mapping[str, SideLog]) -> None:
    """Write logs, one row each."""
    if logs:
        rows = [{"agent_id": each, "document": encode_log(log)} for each, log in sorted(logs.items())]
        statement = upsert_from(connection, agent_sides, _logs, key="agent_id")
        await connection.execute(statement, bind_rows("logs", rows))


async def read_log(connection: AsyncConnection, agent_id: str) -> SideLog:
    """Return the log of one agent, in the transaction of a decision about it."""
    wanted = sa.select(agent_sides.c.document).where(agent_sides.c.agent_id == agent_id)
    return decode_log(await connection.scalar(wanted))


async def note_key_followed(connection: AsyncConnection, agent_id: str, old_key_id: str) -> None:
    """Take note that an agent has another key: after a split, its copies hold the old one."""
    log = await read_log(connection, agent_id)
    after = key_followed(log, old_key_id)
    if after != log:
        await store_logs(connection, {agent_id: after})


def decode_log(document: str | None) -> SideLog:
    """Return a log as it is stored; None: there is none yet."""
    return SideLog() if document is None else _decoder.decode(document)


def encode_log(log: SideLog) -> str:
    """Return a log as text."""
    return msgspec.json.encode(log).decode()


def _sight(opening: StreamOpening, found: Found, stored: Mapping[str, int]) -> Sight:
    assert opening.side is not None
    interval = opening.interval
    return Sight(
        opening.side,
        found.now_ms,
        interval_ms=None if interval is None else int(interval.total_seconds() * 1000),
        took_over=found.online,
        stored_seq=stored.get(opening.agent_id, 0),
    )


async def _stored(
    connection: AsyncConnection, openings: Sequence[StreamOpening], found: Mapping[str, Found]
) -> dict[str, int]:
    """Return how far the outboxes are stored of those whose judgement depends on it: hardly ever any."""
    asked: list[dict[str, Any]] = [
        {"agent_id": each.agent_id, "outbox_id": each.side.outbox_id}
        for each in openings
        if each.side is not None and needs_history(found[each.agent_id].log, each.side)
    ]
    if not asked:
        return {}
    rows = await connection.execute(_STORED, bind_rows("asked", asked))
    return {row.agent_id: row.seq for row in rows}


async def _quarantine(connection: AsyncConnection, agent_id: str, verdict: Judged, now_ms: int) -> SideLog:
    assert verdict.proof is not None
    await set_status(connection, agent_id, AgentStatus.ACTIVE, AgentStatus.QUARANTINED)
    await append_history(
        connection,
        agent_id,
        status=AgentStatus.QUARANTINED,
        actor=CLONES_ACTOR,
        reason=SENTENCES[verdict.proof],
    )
    await append_ending(connection, agent_id, "quarantined")
    await append(connection, [decisions.quarantined(agent_id, verdict.log, verdict.proof)])
    return quarantined(verdict.log, verdict.proof, now_ms)
