"""What a restored store is told again, in memory: ``store.replaying`` by the same contract suite."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from msgspec.structs import replace as replace_log

from ct_ops_server.fleet.model import AgentStatus, DeletedAgent, StatusChange
from ct_ops_server.fleet.sides import SENTENCES, Proof, SideLog, key_followed, key_of_one, quarantined
from ct_ops_server.store.replaying import (
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
from fakes.memory_store import MemoryStore


def replay(store: MemoryStore, events: Iterable[Event]) -> None:
    """Do everything again."""
    for event in events:
        _do_again(store, event)


def _do_again(store: MemoryStore, event: Event) -> None:
    match event:
        case AgentRevoked(agent, said):
            _revoke(store, agent, said)
        case AgentDeleted(agent, status, said):
            _delete(store, agent, status, said)
        case AgentApproved(agent_id, said):
            if _set_status(store, agent_id, {AgentStatus.QUARANTINED}, AgentStatus.ACTIVE, said):
                store._rows[agent_id].sides = SideLog()
            _set_status(store, agent_id, {AgentStatus.PENDING}, AgentStatus.ACTIVE, said)
        case KeyReplaced() | KeyShared() | PlaceTaken():
            _change_keys(store, event)
        case TokenSpent(token_id):
            if (token := store._tokens.get(token_id)) is not None:
                store._tokens[token_id] = replace(token, uses=token.uses + 1)
        case TokenRevoked(token_id, said):
            _revoke_token(store, token_id, said)
        case RequestAnswered(answered):
            store._answered.setdefault(answered.request_id, answered)


def _change_keys(store: MemoryStore, event: KeyReplaced | KeyShared | PlaceTaken) -> None:
    match event:
        case KeyReplaced():
            _replace_key(store, event)
        case KeyShared():
            _share_key(store, event)
        case PlaceTaken():
            _take_place(store, event)


def _share_key(store: MemoryStore, event: KeyShared) -> None:
    row = store._rows.get(event.agent_id)
    current = "" if row is None else row.application.key_id
    if shared := event.key_id or current:
        store._split_keys[shared] = event.agent_id
    if row is None or shared != current:
        return
    why = Said("clone detection", SENTENCES[Proof.SPLIT_AFTER_BACKUP], event.said.at_ms)
    if _set_status(store, row.id, {AgentStatus.ACTIVE}, AgentStatus.QUARANTINED, why):
        log = replace_log(row.sides, kept=None, rivals=())
        row.sides = quarantined(log, Proof.SPLIT_AFTER_BACKUP, event.said.at_ms)


def _take_place(store: MemoryStore, event: PlaceTaken) -> None:
    agent, said = event.agent, event.said
    store._replaced_keys.add(event.old_key_id)
    if not event.public_key_der:
        _revoke(store, agent, said)
        return
    _delete(store, Subject(event.other_id, agent.key_id, agent.hostname), AgentStatus.ACTIVE, said)
    row = store._rows.get(agent.agent_id)
    if row is None:
        return
    row.leaves, row.sides = [], SideLog()
    if row.status is not AgentStatus.REVOKED:
        row.application = replace(row.application, key_id=agent.key_id, public_key_der=event.public_key_der)
    waiting = set(AgentStatus) - {AgentStatus.REVOKED}
    _set_status(store, agent.agent_id, waiting, AgentStatus.ACTIVE, said)


def _revoke(store: MemoryStore, agent: Subject, said: Said) -> None:
    _set_status(store, agent.agent_id, set(AgentStatus), AgentStatus.REVOKED, said)
    if not store.knows(agent.agent_id):
        _bury(store, agent, AgentStatus.REVOKED, said, ())


def _delete(store: MemoryStore, agent: Subject, status: AgentStatus, said: Said) -> None:
    row = store._rows.pop(agent.agent_id, None)
    _bury(store, agent, status, said, () if row is None else tuple(row.history))


def _set_status(
    store: MemoryStore, agent_id: str, found: set[AgentStatus], to: AgentStatus, said: Said
) -> bool:
    row = store._rows.get(agent_id)
    if row is None or row.status not in found - {to}:
        return False
    row.status = to
    row.history.append(StatusChange(_moment(said), to, said.actor, said.reason))
    return True


def _bury(
    store: MemoryStore, agent: Subject, status: AgentStatus, said: Said, history: tuple[StatusChange, ...]
) -> None:
    if not any(left.id == agent.agent_id for _, left in store._deleted):
        left = DeletedAgent(
            agent.agent_id, agent.hostname, status, _moment(said), said.actor, said.reason, history
        )
        store._deleted.append((agent.key_id, left))


def _replace_key(store: MemoryStore, event: KeyReplaced) -> None:
    if event.old_key_id in store._split_keys:
        store._followed_keys.add(event.old_key_id)
    row = store._rows.get(event.agent_id)
    is_free = all(each.application.key_id != event.key_id for each in store._rows.values())
    if row is not None and is_free:
        follow = key_followed
        if _set_status(store, row.id, {AgentStatus.QUARANTINED}, AgentStatus.ACTIVE, event.said):
            follow = key_of_one
        row.sides = follow(row.sides, row.application.key_id)
        row.application = replace(row.application, key_id=event.key_id, public_key_der=event.public_key_der)


def _revoke_token(store: MemoryStore, token_id: str, said: Said) -> None:
    token = store._tokens.get(token_id)
    if token is not None and token.revoked_at is None:
        store._tokens[token_id] = replace(
            token, revoked_at=_moment(said), revoked_by=said.actor, revoked_reason=said.reason
        )


def _moment(said: Said) -> datetime:
    return datetime.fromtimestamp(said.at_ms / 1000, UTC)
