"""How the admin API shows things: JSON objects, times RFC 3339 in UTC, sizes and times with their unit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from ct_ops_server.enrolment.model import TokenRecord
from ct_ops_server.fleet.model import Agent, DeletedAgent, StatusChange


def rfc3339(moment: datetime | None) -> str | None:
    """Return a moment as ``2026-01-31T12:00:00Z``, to the second."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def agent_view(agent: Agent) -> dict[str, Any]:
    """Return an agent as an object."""
    return {
        "id": agent.id,
        "hostname": agent.hostname,
        "status": agent.status.value,
        "online": agent.online,
        "last_seen_at": rfc3339(agent.last_seen_at),
        "created_at": rfc3339(agent.created_at),
        "observed_address": agent.observed_address,
        "key_id": agent.key_id,
        "tags": {tag.key: tag.value for tag in agent.tags},
        "claimed_tags": {tag.key: tag.value for tag in agent.claimed_tags},
        "evidence": agent.evidence,
        "leaf_not_after": rfc3339(agent.leaf_not_after),
        "clock_skew_s": None if agent.clock_skew is None else agent.clock_skew.total_seconds(),
        "token_id": agent.token_id,
        "vitals": None if agent.vitals is None else msgspec.to_builtins(agent.vitals),
        "disks": None if agent.facts is None else msgspec.to_builtins(agent.facts.disks),
        "interfaces": None if agent.facts is None else msgspec.to_builtins(agent.facts.interfaces),
    }


def deleted_view(agent: DeletedAgent) -> dict[str, Any]:
    """Return what is kept of a deleted agent as an object."""
    return {
        "id": agent.id,
        "hostname": agent.hostname,
        "status": agent.status.value,
        "deleted_at": rfc3339(agent.deleted_at),
        "deleted_by": agent.actor,
        "reason": agent.reason,
        "history": [change_view(change) for change in agent.history],
    }


def change_view(change: StatusChange) -> dict[str, Any]:
    """Return one line of a status history as an object."""
    return {
        "at": rfc3339(change.at),
        "status": change.status.value,
        "actor": change.actor,
        "reason": change.reason,
    }


def token_view(token: TokenRecord, now: datetime) -> dict[str, Any]:
    """Return an enrolment token as an object. There is no secret in it."""
    terms = token.terms
    return {
        "id": token.id,
        "label": terms.label,
        "state": token.state(now).value,
        "auto_approve": terms.auto_approve,
        "uses": token.uses,
        "max_uses": terms.max_uses,
        "expires_at": rfc3339(terms.expires_at),
        "created_at": rfc3339(token.created_at),
        "created_by": token.created_by,
        "tags": {tag.key: tag.value for tag in terms.tags},
    }
