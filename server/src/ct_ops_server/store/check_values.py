"""Checks as they lie in their table. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ct_ops_server.fleet.check_model import Check, CheckFreshness, CheckState, NewCheck, StoredDefinition
from ct_ops_server.fleet.items import CheckStatus
from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.values import from_ms, maybe_from_ms

_SECOND = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)


def new_check_values(new: NewCheck, *, actor: str) -> dict[str, Any]:
    """Return the columns of a check that is defined now."""
    return {
        "id": new.id,
        "agent_id": new.agent_id,
        "name": new.name,
        "type": new.type,
        "config": new.config,
        "interval_s": new.interval // _SECOND,
        "timeout_ms": new.timeout // _MILLISECOND,
        "enabled": True,
        "created_at": now_ms(),
        "created_by": actor,
        "changed_at": now_ms(),
        "changed_by": actor,
        "kept": 0,
    }


def check_from(row: sa.Row[Any]) -> Check:
    """Return a check from its row joined with its agent's hostname."""
    return Check(
        id=row.id,
        agent_id=row.agent_id,
        hostname=row.hostname,
        name=row.name,
        type=row.type,
        config=row.config,
        interval=row.interval_s * _SECOND,
        timeout=row.timeout_ms * _MILLISECOND,
        enabled=bool(row.enabled),
        created_at=from_ms(row.created_at),
        created_by=row.created_by,
        changed_at=from_ms(row.changed_at),
        changed_by=row.changed_by,
        state=state_from(row),
    )


def state_from(row: sa.Row[Any]) -> CheckState | None:
    """Return what the newest result says; None before the first."""
    if row.status is None:
        return None
    return CheckState(
        status=CheckStatus(row.status),
        since=from_ms(row.since),
        ran_at=from_ms(row.ran_at),
        acknowledged_at=from_ms(row.acknowledged_at),
    )


def definition_from(row: sa.Row[Any]) -> StoredDefinition:
    """Return what an agent needs to know of a check."""
    return StoredDefinition(
        id=row.id,
        type=row.type,
        config=row.config,
        interval=row.interval_s * _SECOND,
        timeout=row.timeout_ms * _MILLISECOND,
    )


def freshness_from(row: sa.Row[Any]) -> CheckFreshness:
    """Return when a check last had a result."""
    return CheckFreshness(
        agent_id=row.agent_id,
        check_id=row.id,
        name=row.name,
        interval=row.interval_s * _SECOND,
        defined_at=from_ms(row.changed_at),
        ran_at=maybe_from_ms(row.ran_at),
        acknowledged_at=maybe_from_ms(row.acknowledged_at),
    )
