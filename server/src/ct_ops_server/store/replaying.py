"""What was decided after a copy was made, decided again in the database that was restored from it (rule 25).

Events come in the order in which they were decided, and each is written so that doing it to a database that has it
already changes nothing. An agent that the copy does not know was enrolled after it: of such a one only its end
is written, as a tombstone, so that the leaf it still holds brings nobody back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict

import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.sides import SENTENCES, Proof, key_of_one, quarantined
from ct_ops_server.store.agents import read_history
from ct_ops_server.store.carried_tables import carried_requests
from ct_ops_server.store.events_since import (
    NAMES,
    AgentApproved,
    AgentDeleted,
    AgentRevoked,
    Event,
    KeyReplaced,
    KeyShared,
    PlaceTaken,
    RequestAnswered,
    Said,
    Subject,
    TokenRevoked,
    TokenSpent,
)
from ct_ops_server.store.key_bars import REPLACED, SPLIT, bar_key, note_followed
from ct_ops_server.store.schema import agents, leaves, status_history, tokens, tombstones
from ct_ops_server.store.side_tables import agent_sides, barred_keys
from ct_ops_server.store.sides import CLONES_ACTOR, note_key_followed, read_log, store_logs
from ct_ops_server.store.upsert import insert_if_absent
from ct_ops_server.store.values import encode_history

__all__ = [
    "AgentApproved",
    "AgentDeleted",
    "AgentRevoked",
    "Event",
    "KeyReplaced",
    "KeyShared",
    "PlaceTaken",
    "RequestAnswered",
    "Said",
    "Subject",
    "TokenRevoked",
    "TokenSpent",
    "replay",
]

_NEEDED: Mapping[type[Event], sa.Table] = {
    RequestAnswered: carried_requests,
    KeyShared: barred_keys,
    PlaceTaken: barred_keys,
}
"""Tables that a copy from before an upgrade may not have: then there is nothing to do in it."""


async def replay(connection: AsyncConnection, events: Iterable[Event]) -> Mapping[str, int]:
    """Do everything again; return how much of what."""
    done: Counter[str] = Counter()
    there = set(await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names()))
    for event in events:
        needed = _NEEDED.get(type(event))
        if needed is None or needed.name in there:
            await _do_again(connection, event, there)
            done[NAMES[type(event)]] += 1
    return dict(done)


async def _do_again(connection: AsyncConnection, event: Event, there: Collection[str]) -> None:
    match event:
        case AgentRevoked(agent, said):
            await _revoke(connection, agent, said)
        case AgentDeleted(agent, status, said):
            await _delete(connection, agent, status, said)
        case AgentApproved(agent_id, said):
            await _approve(connection, agent_id, said, has_sides=agent_sides.name in there)
        case KeyReplaced() | KeyShared() | PlaceTaken():
            await _change_keys(connection, event, has_sides=agent_sides.name in there)
        case TokenSpent() | TokenRevoked() | RequestAnswered():
            await _spend(connection, event)


async def _change_keys(
    connection: AsyncConnection, event: KeyReplaced | KeyShared | PlaceTaken, *, has_sides: bool
) -> None:
    match event:
        case KeyReplaced():
            await _replace_key(connection, event, has_sides=has_sides)
        case KeyShared():
            await _share_key(connection, event)
        case PlaceTaken():
            await _take_place(connection, event)


async def _spend(connection: AsyncConnection, event: TokenSpent | TokenRevoked | RequestAnswered) -> None:
    match event:
        case TokenSpent(token_id):
            await connection.execute(_token(token_id).values(uses=tokens.c.uses + 1))
        case TokenRevoked(token_id, said):
            usable = _token(token_id).where(tokens.c.revoked_at.is_(None))
            revoked = {"revoked_at": said.at_ms, "revoked_by": said.actor, "revoked_reason": said.reason}
            await connection.execute(usable.values(revoked))
        case RequestAnswered(answered, at_ms):
            row = asdict(answered) | {"answered_at": at_ms}
            await connection.execute(insert_if_absent(connection, carried_requests, row, key="request_id"))


_other = agents.alias("other")
_QUARANTINED = agents.c.status == AgentStatus.QUARANTINED.value


def _token(token_id: str) -> sa.Update:
    return tokens.update().where(tokens.c.id == token_id)


async def _revoke(connection: AsyncConnection, agent: Subject, said: Said) -> None:
    served = agents.c.status != AgentStatus.REVOKED.value
    await _set_status(connection, agent.agent_id, served, AgentStatus.REVOKED, said)
    known = sa.select(agents.c.id).where(agents.c.id == agent.agent_id)
    if await connection.scalar(known) is None:
        await _write_tombstone(connection, agent, AgentStatus.REVOKED, said, history="[]")


async def _approve(connection: AsyncConnection, agent_id: str, said: Said, *, has_sides: bool) -> None:
    was_quarantined = await _set_status(connection, agent_id, _QUARANTINED, AgentStatus.ACTIVE, said)
    if was_quarantined and has_sides:
        await connection.execute(agent_sides.delete().where(agent_sides.c.agent_id == agent_id))
    pending = agents.c.status == AgentStatus.PENDING.value
    await _set_status(connection, agent_id, pending, AgentStatus.ACTIVE, said)


async def _share_key(connection: AsyncConnection, event: KeyShared) -> None:
    current = await _key_of(connection, event.agent_id)
    if not (shared := event.key_id or current):
        return
    await bar_key(connection, shared, event.agent_id, SPLIT)
    if shared != current:
        return
    served = agents.c.status == AgentStatus.ACTIVE.value
    why = Said(CLONES_ACTOR, SENTENCES[Proof.SPLIT_AFTER_BACKUP], event.said.at_ms)
    if await _set_status(connection, event.agent_id, served, AgentStatus.QUARANTINED, why):
        log = await read_log(connection, event.agent_id)
        log = quarantined(replace(log, kept=None, rivals=()), Proof.SPLIT_AFTER_BACKUP, event.said.at_ms)
        await store_logs(connection, {event.agent_id: log})


async def _replace_key(connection: AsyncConnection, event: KeyReplaced, *, has_sides: bool) -> None:
    before = await _key_of(connection, event.agent_id)
    if has_sides and event.old_key_id:
        await note_followed(connection, event.old_key_id)
    free = sa.not_(sa.exists().where(_other.c.key_id == event.key_id))
    key = {"key_id": event.key_id, "public_key_der": event.public_key_der}
    changed = await connection.execute(agents.update().where(agents.c.id == event.agent_id, free).values(key))
    if not changed.rowcount or before is None or not has_sides:
        return
    if await _set_status(connection, event.agent_id, _QUARANTINED, AgentStatus.ACTIVE, event.said):
        # Only an agent that is served gets another key: it was split, and has one that no copy holds.
        log = key_of_one(await read_log(connection, event.agent_id), before)
        await store_logs(connection, {event.agent_id: log})
    else:
        # Of an agent that the copy knows as split: who speaks with the new key is it, wherever that is by now.
        await note_key_followed(connection, event.agent_id, before)


async def _key_of(connection: AsyncConnection, agent_id: str) -> str | None:
    key_id: str | None = await connection.scalar(sa.select(agents.c.key_id).where(agents.c.id == agent_id))
    return key_id


async def _take_place(connection: AsyncConnection, event: PlaceTaken) -> None:
    agent, said = event.agent, event.said
    await bar_key(connection, event.old_key_id, agent.agent_id, REPLACED)
    if not event.public_key_der:  # the old hardware still holds a leaf of this agent, and must not be it
        await _revoke(connection, agent, said)
        return
    other = Subject(event.other_id, agent.key_id, agent.hostname)
    await _delete(connection, other, AgentStatus.ACTIVE, said)
    for table in (leaves, agent_sides):  # they are about the old hardware
        await connection.execute(table.delete().where(table.c.agent_id == agent.agent_id))
    served = agents.c.status != AgentStatus.REVOKED.value
    key = {"key_id": agent.key_id, "public_key_der": event.public_key_der}
    await connection.execute(agents.update().where(agents.c.id == agent.agent_id, served).values(key))
    waiting = agents.c.status.notin_((AgentStatus.REVOKED.value, AgentStatus.ACTIVE.value))
    await _set_status(connection, agent.agent_id, waiting, AgentStatus.ACTIVE, said)


async def _delete(connection: AsyncConnection, agent: Subject, status: AgentStatus, said: Said) -> None:
    history = encode_history(await read_history(connection, agent.agent_id))
    await connection.execute(agents.delete().where(agents.c.id == agent.agent_id))
    await _write_tombstone(connection, agent, status, said, history=history)


async def _set_status(
    connection: AsyncConnection, agent_id: str, found: sa.ColumnElement[bool], to: AgentStatus, said: Said
) -> bool:
    """Change a status that is found; return whether it was."""
    changed = agents.update().where(agents.c.id == agent_id, found).values(status=to.value)
    if not (await connection.execute(changed)).rowcount:
        return False
    line = {"status": to.value, "actor": said.actor, "reason": said.reason, "at": said.at_ms}
    await connection.execute(status_history.insert().values({"agent_id": agent_id, **line}))
    return True


async def _write_tombstone(
    connection: AsyncConnection, agent: Subject, status: AgentStatus, said: Said, *, history: str
) -> None:
    row = {
        "agent_id": agent.agent_id,
        "key_id": agent.key_id,
        "hostname": agent.hostname,
        "status": status.value,
        "deleted_at": said.at_ms,
        "actor": said.actor,
        "reason": said.reason,
        "history": history,
    }
    await connection.execute(insert_if_absent(connection, tombstones, row, key="agent_id"))
