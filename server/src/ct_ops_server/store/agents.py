"""What operators read about agents, and what they decide."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.decisions import deleted, status_changed
from ct_ops_server.fleet.model import Agent, AgentStatus, DeletedAgent, Facts, StatusChange, Tag
from ct_ops_server.store.audit import append
from ct_ops_server.store.database import Database
from ct_ops_server.store.endings import append_ending
from ct_ops_server.store.presence import is_online
from ct_ops_server.store.schema import (
    agent_facts,
    agent_tags,
    agents,
    leaves,
    now_ms,
    status_history,
    tombstones,
)
from ct_ops_server.store.side_tables import agent_sides
from ct_ops_server.store.values import (
    agent_from,
    decode_history,
    encode_history,
    facts_from,
    from_ms,
    status_from,
)
from ct_ops_server.store.writer import GroupWriter

_MOST_FOUND = 10
"""Enough to say that a selector is ambiguous, and between which."""

_leaf_not_after = (
    sa.select(leaves.c.not_after)
    .where(leaves.c.agent_id == agents.c.id)
    .order_by(leaves.c.issued_at.desc(), leaves.c.not_after.desc())
    .limit(1)
    .scalar_subquery()
)
_SELECT = sa.select(agents, is_online().label("is_online"), _leaf_not_after.label("leaf_not_after"))


class SqlAgentStore:
    """``fleet.ports.AgentStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def list_agents(self, *, status: AgentStatus | None = None) -> Sequence[Agent]:
        """All agents, by hostname then id; without vitals' lists (``facts`` is None)."""
        statement = _SELECT if status is None else _SELECT.where(agents.c.status == status.value)
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).all()
            tags = await _read_tags(connection)
        found = [agent_from(row, tags[row.id], None) for row in rows]
        # Here and not by ORDER BY: each database sorts text by its own locale.
        return sorted(found, key=lambda agent: (agent.hostname, agent.id))

    async def find_agents(self, selector: str) -> Sequence[Agent]:
        """Agents whose id is ``selector``, else whose id starts with it, else with exactly this hostname."""
        starts = sa.func.substr(agents.c.id, 1, len(selector)) == selector
        conditions = [agents.c.id == selector, starts, agents.c.hostname == selector] if selector else []
        async with self._database.reading() as connection:
            for condition in conditions:
                if found := await _find(connection, condition):
                    return found
        return []

    async def hosts_starting_with(self, prefix: str) -> Sequence[tuple[str, str]]:
        """Id and hostname of every agent whose hostname starts with these very characters, by hostname."""
        starts = sa.func.substr(agents.c.hostname, 1, len(prefix)) == prefix  # LIKE would read patterns
        async with self._database.reading() as connection:
            rows = (await connection.execute(sa.select(agents.c.id, agents.c.hostname).where(starts))).all()
        return sorted(((row.id, row.hostname) for row in rows), key=lambda host: host[::-1])

    async def count_by_status(self) -> Mapping[AgentStatus, int]:
        """Return how many agents have each status; one that none has may be missing."""
        statement = sa.select(agents.c.status, sa.func.count()).group_by(agents.c.status)
        async with self._database.reading() as connection:
            counted: Counter[AgentStatus] = Counter()
            for word, count in await connection.execute(statement):
                counted[status_from(word)] += count  # several words of a newer server may count as one
            return counted

    async def change_status(
        self, agent_id: str, *, allowed_from: frozenset[AgentStatus], to: AgentStatus, actor: str, reason: str
    ) -> AgentStatus | None:
        """Change the status if it is in ``allowed_from``; return the one found, None without an agent."""

        async def change(connection: AsyncConnection) -> AgentStatus | None:
            agent = await _lock(connection, agent_id)
            found = None if agent is None else status_from(agent.status)
            if agent is not None and found is not None and found in allowed_from:
                await set_status(connection, agent_id, found, to)
                if found is AgentStatus.QUARANTINED:
                    await connection.execute(agent_sides.delete().where(agent_sides.c.agent_id == agent_id))
                await append_history(connection, agent_id, status=to, actor=actor, reason=reason)
                verdict = status_changed(
                    agent_id,
                    key_id=agent.key_id,
                    hostname=agent.hostname,
                    found=found,
                    to=to,
                    actor=actor,
                    reason=reason,
                )
                await append(connection, [verdict])
                if to is AgentStatus.REVOKED:
                    await append_ending(connection, agent_id, "revoked")
            return found

        return await self._writer.run(change)

    async def delete_agent(self, agent_id: str, *, actor: str, reason: str) -> bool:
        """Delete the agent and what belongs to it, leaving a tombstone; False when there is none."""

        async def delete(connection: AsyncConnection) -> bool:
            agent = await _lock(connection, agent_id)
            if agent is None:
                return False
            history = encode_history(await read_history(connection, agent_id))
            await bury(connection, agent_id, actor=actor, reason=reason, history=history)
            await connection.execute(agents.delete().where(agents.c.id == agent_id))
            await append_ending(connection, agent_id, "unknown_agent")
            deletion = deleted(
                agent_id,
                key_id=agent.key_id,
                hostname=agent.hostname,
                found=status_from(agent.status),
                actor=actor,
                reason=reason,
            )
            await append(connection, [deletion])
            return True

        return await self._writer.run(delete)

    async def deleted_agents(self) -> Sequence[DeletedAgent]:
        """Youngest deletion first."""
        statement = sa.select(tombstones).order_by(tombstones.c.deleted_at.desc(), tombstones.c.agent_id)
        async with self._database.reading() as connection:
            return [_deleted_agent(row) for row in await connection.execute(statement)]

    async def status_history(self, agent_id: str) -> Sequence[StatusChange]:
        """Oldest first."""
        async with self._database.reading() as connection:
            return await read_history(connection, agent_id)


async def append_history(
    connection: AsyncConnection, agent_id: str, *, status: AgentStatus, actor: str, reason: str
) -> None:
    """Add a line to an agent's status history, now."""
    line = {"agent_id": agent_id, "at": now_ms(), "status": status.value, "actor": actor, "reason": reason}
    await connection.execute(status_history.insert().values(line))


async def read_history(connection: AsyncConnection, agent_id: str) -> list[StatusChange]:
    """Return an agent's status changes, oldest first."""
    statement = (
        sa.select(status_history).where(status_history.c.agent_id == agent_id).order_by(status_history.c.id)
    )
    rows = (await connection.execute(statement)).all()
    return [StatusChange(from_ms(row.at), status_from(row.status), row.actor, row.reason) for row in rows]


async def bury(connection: AsyncConnection, agent_id: str, *, actor: str, reason: str, history: str) -> None:
    """Leave a tombstone of an agent that is about to be deleted."""
    left = {"deleted_at": now_ms(), "actor": actor, "reason": reason, "history": history}
    kept = ("id", "key_id", "hostname", "status")
    source = sa.select(
        *(agents.c[name] for name in kept),
        *(sa.literal(value) if isinstance(value, str) else value for value in left.values()),
    ).where(agents.c.id == agent_id)
    columns = ["agent_id", *kept[1:], *left]
    await connection.execute(tombstones.insert().from_select(columns, source))


def _deleted_agent(row: sa.Row[Any]) -> DeletedAgent:
    return DeletedAgent(
        id=row.agent_id,
        hostname=row.hostname,
        status=status_from(row.status),
        deleted_at=from_ms(row.deleted_at),
        actor=row.actor,
        reason=row.reason,
        history=decode_history(row.history),
    )


async def _lock(connection: AsyncConnection, agent_id: str) -> Any | None:
    """Read the status, and keep it from changing until the commit (SQLite's writer is alone anyway)."""
    statement = sa.select(agents.c.status, agents.c.key_id, agents.c.hostname).where(agents.c.id == agent_id)
    return (await connection.execute(statement.with_for_update())).first()


async def set_status(
    connection: AsyncConnection, agent_id: str, found: AgentStatus | None, to: AgentStatus
) -> None:
    """Change a status in the transaction of its decision; leaving ``active`` fences every open stream."""
    values: dict[str, Any] = {"status": to.value}
    if found is AgentStatus.ACTIVE and to is not AgentStatus.ACTIVE:
        # No write of an open stream may follow: they all name the generation before this one.
        values |= {"generation": agents.c.generation + 1, "online": False, "worker_id": None}
    await connection.execute(agents.update().where(agents.c.id == agent_id).values(values))


async def _find(connection: AsyncConnection, condition: sa.ColumnElement[bool]) -> list[Agent]:
    statement = _SELECT.where(condition).order_by(agents.c.id).limit(_MOST_FOUND)
    rows = (await connection.execute(statement)).all()
    ids = [row.id for row in rows]
    tags = await _read_tags(connection, ids)
    facts = await _read_facts(connection, ids)
    return [agent_from(row, tags[row.id], facts.get(row.id)) for row in rows]


async def _read_tags(
    connection: AsyncConnection, ids: Sequence[str] | None = None
) -> defaultdict[str, tuple[Tag, ...]]:
    statement = sa.select(agent_tags)
    if ids is not None:
        statement = statement.where(agent_tags.c.agent_id.in_(ids))
    tags: defaultdict[str, tuple[Tag, ...]] = defaultdict(tuple)
    rows = (await connection.execute(statement)).all()
    for row in sorted(rows, key=lambda row: row.key):
        tags[row.agent_id] += (Tag(row.key, row.value),)
    return tags


async def _read_facts(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, Facts]:
    rows = await connection.execute(sa.select(agent_facts).where(agent_facts.c.agent_id.in_(ids)))
    return {row.agent_id: facts_from(row.disks, row.interfaces) for row in rows}
