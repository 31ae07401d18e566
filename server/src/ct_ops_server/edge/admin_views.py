"""How the admin API shows things: JSON objects, times RFC 3339 in UTC, sizes and times with their unit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from ct_ops_server.enrolment.model import AdmittedAgent, RefusalRecord, TokenRecord
from ct_ops_server.enrolment.remedies import remedy
from ct_ops_server.enrolment.tokens import TokenSheet
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
        "networks": list(terms.networks),
        "hostname_pattern": terms.hostname_pattern,
        "revoked_at": rfc3339(token.revoked_at),
        "revoked_by": token.revoked_by,
        "revoked_reason": token.revoked_reason,
    }


def sheet_view(sheet: TokenSheet, now: datetime) -> dict[str, Any]:
    """Return a token with whom it admitted, and whom it did not."""
    return {
        **token_view(sheet.record, now),
        "admitted": [admitted_view(agent) for agent in sheet.admitted],
        "refused": [refusal_view(record) for record in sheet.refused],
    }


def admitted_view(agent: AdmittedAgent) -> dict[str, Any]:
    """Return an agent that a token admitted as an object."""
    return {
        "id": agent.id,
        "hostname": agent.hostname,
        "status": agent.status.value,
        "admitted_at": rfc3339(agent.admitted_at),
    }


def refusal_view(record: RefusalRecord) -> dict[str, Any]:
    """Return somebody who was not admitted as an object, with what to do."""
    return {
        "reason": record.reason.value,
        "what_to_do": remedy(record.reason),
        "hostname": record.hostname,
        "observed_address": record.observed_address,
        "key_id": record.key_id,
        "token_id": record.token_id,
        "first_at": rfc3339(record.first_at),
        "last_at": rfc3339(record.last_at),
        "count": record.count,
    }
