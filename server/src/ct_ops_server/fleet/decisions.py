"""What is recorded of decisions about agents, checks, queries and tasks: see ``audit``.

Pure: the store appends them in the transaction that carries them out. What agents and operators wrote into
configurations stays out; it may hold secrets of theirs.
"""

from __future__ import annotations

import base64

from ct_ops_server.audit.decisions import SERVER, Action, Decision, Detail, agent_actor
from ct_ops_server.fleet.check_model import NewCheck
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.orders import NewQuery, NewTask
from ct_ops_server.fleet.sides import Proof, Side, SideLog

THE_HOST_ITSELF = "the host itself"
"""The actor, in an agent's history, of what its host did."""


def status_changed(
    agent_id: str,
    *,
    key_id: str,
    hostname: str,
    found: AgentStatus,
    to: AgentStatus,
    actor: str,
    reason: str,
) -> Decision:
    """Return the record of a verdict."""
    by_itself = actor == THE_HOST_ITSELF
    return Decision(
        _verdict(found, to, by_itself=by_itself),
        agent_actor(agent_id) if by_itself else actor,
        agent=agent_id,
        details={"key_id": key_id, "hostname": hostname, "status": found.value, "reason": reason},
    )


def deleted(
    agent_id: str, *, key_id: str, hostname: str, found: AgentStatus, actor: str, reason: str
) -> Decision:
    """Return the record of a deletion."""
    details = {"key_id": key_id, "hostname": hostname, "status": found.value, "reason": reason}
    return Decision(Action.AGENT_DELETED, actor, agent=agent_id, details=details)


def quarantined(agent_id: str, log: SideLog, proof: Proof) -> Decision:
    """Return the record of a clone that was noticed, with what each side says of itself."""
    sides = [each.side for each in log.seen]
    details: dict[str, Detail] = {
        "proof": proof.value,
        "addresses": tuple(side.address for side in sides),
        "boot_ids": tuple(side.boot_id for side in sides),
        "machine_ids": tuple(side.machine_id for side in sides),
        "process_ids": tuple(side.process_id for side in sides),
        "hostnames": tuple(side.hostname for side in sides),
    }
    return Decision(Action.AGENT_QUARANTINED, SERVER, agent=agent_id, details=details)


def was_split(agent_id: str, key_id: str, kept: Side, *, actor: str, reason: str) -> Decision:
    """Return the record of a split: which key copies share, and which side keeps the agent."""
    details: dict[str, Detail] = {
        "key_id": key_id,
        "kept_address": kept.address,
        "kept_boot_id": kept.boot_id,
        "reason": reason,
    }
    return Decision(Action.AGENT_SPLIT, actor, agent=agent_id, details=details)


def merged(kept: str, other: str, *, key_id: str, hostname: str, actor: str, reason: str) -> list[Decision]:
    """Return the records of a merger; ``key_id`` and ``hostname`` are the other one's, which is revoked."""
    return [
        Decision(Action.AGENT_MERGED, actor, agent=kept, subject=other, details={"reason": reason}),
        # Said as what it is for whoever restores a backup from before: its key must not come back.
        status_changed(
            other,
            key_id=key_id,
            hostname=hostname,
            found=AgentStatus.ACTIVE,  # of a pending one it would be called a rejection
            to=AgentStatus.REVOKED,
            actor=actor,
            reason=f"merged into agent {kept}",
        ),
    ]


def place_taken(
    old: str, new: str, *, key: tuple[str, bytes], old_key_id: str, hostname: str, actor: str, reason: str
) -> Decision:
    """Return the record of new hardware, with its key as id and whole: a restored database must know it."""
    details: dict[str, Detail] = {
        "key_id": key[0],
        "old_key_id": old_key_id,
        "public_key": base64.b64encode(key[1]).decode(),
        "hostname": hostname,
        "reason": reason,
    }
    return Decision(Action.AGENT_REPLACED, actor, agent=old, subject=new, details=details)


def check_added(new: NewCheck, *, actor: str) -> Decision:
    """Return the record of a new check, without its configuration."""
    details: dict[str, Detail] = {
        "name": new.name,
        "type": new.type,
        "interval_s": int(new.interval.total_seconds()),
    }
    return Decision(Action.CHECK_ADDED, actor, agent=new.agent_id, subject=new.id, details=details)


def check_switched(check_id: str, agent_id: str, name: str, *, enabled: bool, actor: str) -> Decision:
    """Return the record of a check that was switched on or off."""
    details: dict[str, Detail] = {"name": name, "enabled": enabled}
    return Decision(Action.CHECK_CHANGED, actor, agent=agent_id, subject=check_id, details=details)


def check_removed(check_id: str, agent_id: str, name: str, *, actor: str) -> Decision:
    """Return the record of a check that is gone."""
    return Decision(Action.CHECK_REMOVED, actor, agent=agent_id, subject=check_id, details={"name": name})


def query_asked(query: NewQuery) -> Decision:
    """Return the record of a question."""
    details = {"type": query.query_type}
    return Decision(Action.QUERY_ASKED, query.actor, agent=query.agent_id, subject=query.id, details=details)


def task_given(task: NewTask) -> Decision:
    """Return the record of a task."""
    details: dict[str, Detail] = {"type": task.task_type, "lifetime_s": int(task.lifetime.total_seconds())}
    return Decision(Action.TASK_GIVEN, task.actor, agent=task.agent_id, subject=task.id, details=details)


def task_cancelled(task_id: str, agent_id: str, *, actor: str) -> Decision:
    """Return the record of a task that is taken back."""
    return Decision(Action.TASK_CANCELLED, actor, agent=agent_id, subject=task_id)


def _verdict(found: AgentStatus, to: AgentStatus, *, by_itself: bool) -> Action:
    if to is AgentStatus.ACTIVE:
        return Action.AGENT_APPROVED
    if by_itself:
        return Action.AGENT_DEREGISTERED
    return Action.AGENT_REJECTED if found is AgentStatus.PENDING else Action.AGENT_REVOKED
