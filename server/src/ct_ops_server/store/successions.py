"""What an operator decides about two agents that are one host, or one agent that is two hosts.

Each decision is one transaction: rows, history, endings and the audit log, all or none. Rows are locked in the
order of their ids, so that two decisions cannot wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet import decisions
from ct_ops_server.fleet.clones import Outcome
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.sides import SideLog, split
from ct_ops_server.store.agents import append_history, bury, set_status
from ct_ops_server.store.audit import append
from ct_ops_server.store.endings import append_ending
from ct_ops_server.store.key_bars import REPLACED, SPLIT, bar_key
from ct_ops_server.store.schema import agent_facts, agents, leaves
from ct_ops_server.store.side_tables import agent_sides
from ct_ops_server.store.sides import store_logs
from ct_ops_server.store.values import status_from
from ct_ops_server.store.writer import GroupWriter

_KEY = ("key_id", "public_key_der", "machine_id")
_HARDWARE = (*_KEY, "observed_address", "claimed_addresses", "os", "os_version", "arch", "agent_version")


@dataclass(frozen=True, slots=True)
class _Locked:
    id: str
    status: AgentStatus
    key_id: str
    hostname: str


class SqlSuccessionStore:
    """``fleet.clones.SuccessionStore``."""

    def __init__(self, writer: GroupWriter) -> None:
        self._writer = writer

    async def split(self, agent_id: str, log: SideLog, place: int, *, actor: str, reason: str) -> Outcome:
        """Let one side of an agent in quarantine go on alone; its key is barred for whoever else holds it."""

        async def decide(connection: AsyncConnection) -> Outcome:
            locked = await _lock(connection, agent_id)
            if agent_id not in locked:
                return Outcome.GONE
            if locked[agent_id].status is not AgentStatus.QUARANTINED:
                return Outcome.CHANGED
            await set_status(connection, agent_id, AgentStatus.QUARANTINED, AgentStatus.ACTIVE)
            await store_logs(connection, {agent_id: split(log, place)})
            await bar_key(connection, locked[agent_id].key_id, agent_id, SPLIT)
            kept = log.seen[place].side
            said = _said(f"split: the side at {kept.address} keeps the agent", reason)
            await append_history(connection, agent_id, status=AgentStatus.ACTIVE, actor=actor, reason=said)
            key_id = locked[agent_id].key_id
            said_so = decisions.was_split(agent_id, key_id, kept, actor=actor, reason=reason)
            await append(connection, [said_so])
            return Outcome.DONE

        return await self._writer.run(decide)

    async def merge(self, kept: str, other: str, *, actor: str, reason: str) -> Outcome:
        """Record that two agents are one host: the other one is revoked, and points to the one that is kept."""

        async def decide(connection: AsyncConnection) -> Outcome:
            locked = await _lock(connection, kept, other)
            if len(locked) < 2:
                return Outcome.GONE
            if AgentStatus.REVOKED in {locked[kept].status, locked[other].status}:
                return Outcome.CHANGED
            await set_status(connection, other, locked[other].status, AgentStatus.REVOKED)
            pointer = agents.update().where(agents.c.id == other).values(evidence=f"merged into agent {kept}")
            await connection.execute(pointer)
            for agent_id, status, text in (
                (other, AgentStatus.REVOKED, f"merged into agent {kept}: they are one host"),
                (kept, locked[kept].status, f"agent {other} was merged into this one: its history is there"),
            ):
                said = _said(text, reason)
                await append_history(connection, agent_id, status=status, actor=actor, reason=said)
            await append_ending(connection, other, "revoked")
            gone = locked[other]
            said_so = decisions.merged(
                kept, other, key_id=gone.key_id, hostname=gone.hostname, actor=actor, reason=reason
            )
            await append(connection, said_so)
            return Outcome.DONE

        return await self._writer.run(decide)

    async def replace(self, old: str, new: str, *, actor: str, reason: str) -> Outcome:
        """Let the host of ``new`` be agent ``old`` from now on: its key follows the old one, which is barred."""

        async def decide(connection: AsyncConnection) -> Outcome:
            locked = await _lock(connection, old, new)
            if len(locked) < 2:
                return Outcome.GONE
            if AgentStatus.REVOKED in {locked[old].status, locked[new].status}:
                return Outcome.CHANGED
            if locked[new].status is AgentStatus.QUARANTINED:
                return Outcome.CHANGED
            key_der = await _take_place(connection, locked[old], locked[new], actor=actor, reason=reason)
            said_so = decisions.place_taken(
                old,
                new,
                key=(locked[new].key_id, key_der),
                old_key_id=locked[old].key_id,
                hostname=locked[old].hostname,
                actor=actor,
                reason=reason,
            )
            await append(connection, [said_so])
            return Outcome.DONE

        return await self._writer.run(decide)


async def _take_place(
    connection: AsyncConnection, old: _Locked, new: _Locked, *, actor: str, reason: str
) -> bytes:
    """Return the key that is the old agent's now."""
    row = (await connection.execute(sa.select(agents).where(agents.c.id == new.id))).one()
    said = _said(f"its host took the place of agent {old.id}", reason)
    await bury(connection, new.id, actor=actor, reason=said, history="[]")
    await connection.execute(agents.delete().where(agents.c.id == new.id))
    await _forget_hardware(connection, old.id)
    hardware = {name: getattr(row, name) for name in _HARDWARE}
    # Every open stream of the old hardware is fenced, also when the agent is active before and after.
    fenced = {"generation": agents.c.generation + 1, "online": False, "worker_id": None}
    values = hardware | fenced | {"status": AgentStatus.ACTIVE.value, "evidence": ""}
    await connection.execute(agents.update().where(agents.c.id == old.id).values(values))
    await bar_key(connection, old.key_id, old.id, REPLACED)
    said = _said(f"new hardware: the host of agent {new.id} took its place", reason)
    await append_history(connection, old.id, status=AgentStatus.ACTIVE, actor=actor, reason=said)
    for agent_id, why in ((old.id, "key_replaced"), (new.id, "unknown_agent")):
        await append_ending(connection, agent_id, why)
    return bytes(row.public_key_der)


async def _forget_hardware(connection: AsyncConnection, agent_id: str) -> None:
    """Remove what is about the old machine: its leaves, its sides, its disks and interfaces."""
    for table in (leaves, agent_sides, agent_facts):
        await connection.execute(table.delete().where(table.c.agent_id == agent_id))


async def _lock(connection: AsyncConnection, *agent_ids: str) -> dict[str, _Locked]:
    columns = (agents.c.id, agents.c.status, agents.c.key_id, agents.c.hostname)
    wanted = sa.select(*columns).where(agents.c.id.in_(agent_ids))
    rows = (await connection.execute(wanted.order_by(agents.c.id).with_for_update())).all()
    return {row.id: _Locked(row.id, status_from(row.status), row.key_id, row.hostname) for row in rows}


def _said(text: str, reason: str) -> str:
    return f"{text} ({reason})" if reason else text
