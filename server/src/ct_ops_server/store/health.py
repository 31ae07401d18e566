"""What ``fleet.health`` decides from, read for one agent, or for all that may be degraded.

For the whole fleet only the rows are read that can make a host degraded: what is younger than the
shortest silence that counts cannot. So a healthy fleet costs two index scans, whatever its size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.check_model import CheckFreshness
from ct_ops_server.fleet.delivery import RefusedItems, StoredGap
from ct_ops_server.fleet.health import (
    GAP_COUNTS_FOR,
    REFUSAL_COUNTS_FOR,
    SHORTEST_SILENCE,
    CollectorHealth,
    HealthFacts,
)
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.check_tables import checks
from ct_ops_server.store.check_values import freshness_from
from ct_ops_server.store.database import Database
from ct_ops_server.store.delivery_tables import gaps, item_refusals, outboxes
from ct_ops_server.store.gaps import gap_from
from ct_ops_server.store.item_refusals import refused_items_from
from ct_ops_server.store.presence import is_online
from ct_ops_server.store.sample_tables import collectors
from ct_ops_server.store.schema import agents, now_ms
from ct_ops_server.store.values import from_ms, maybe_from_ms

_MILLISECOND = timedelta(milliseconds=1)
_DELIVERED_AT = (
    sa.select(sa.func.max(outboxes.c.stored_at))
    .where(outboxes.c.agent_id == agents.c.id)
    .scalar_subquery()
    .label("delivered_at")
)


@dataclass
class _Found:
    """Rows by agent."""

    collectors: defaultdict[str, list[CollectorHealth]] = field(default_factory=lambda: defaultdict(list))
    checks: defaultdict[str, list[CheckFreshness]] = field(default_factory=lambda: defaultdict(list))
    gaps: defaultdict[str, list[StoredGap]] = field(default_factory=lambda: defaultdict(list))
    refused: defaultdict[str, list[RefusedItems]] = field(default_factory=lambda: defaultdict(list))

    def agent_ids(self) -> list[str]:
        return sorted({*self.collectors, *self.checks, *self.gaps, *self.refused})


class SqlHealthStore:
    """``fleet.health.HealthStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def facts_of(self, agent_id: str) -> HealthFacts | None:
        """Return everything about one agent, whether it is connected or not; None without an agent."""
        async with self._database.reading() as connection:
            found = await _find(connection, agent_id)
            facts = await _facts(connection, [agent_id], found, only_online=False)
        return facts[0] if facts else None

    async def suspects(self) -> Sequence[HealthFacts]:
        """Return the facts of every connected agent that may be degraded, as far as they may make it so."""
        async with self._database.reading() as connection:
            found = await _find(connection, None)
            return await _facts(connection, found.agent_ids(), found, only_online=True)


async def _find(connection: AsyncConnection, agent_id: str | None) -> _Found:
    """Read the rows of one agent, or those of everybody that can make a host degraded."""
    found = _Found()
    for row in await connection.execute(_collectors_of(agent_id)):
        found.collectors[row.agent_id].append(_collector(row))
    for row in await connection.execute(_checks_of(agent_id)):
        found.checks[row.agent_id].append(freshness_from(row))
    for row in await connection.execute(_gaps_of(agent_id)):
        found.gaps[row.agent_id].append(gap_from(row))
    for row in await connection.execute(_refused_of(agent_id)):
        found.refused[row.agent_id].append(refused_items_from(row))
    return found


def _collectors_of(agent_id: str | None) -> sa.Select[Any]:
    statement = sa.select(collectors).order_by(collectors.c.agent_id, collectors.c.name)
    if agent_id is not None:
        return statement.where(collectors.c.agent_id == agent_id)
    is_worth_a_look = sa.or_(collectors.c.problem != "", _is_quiet(collectors.c.newest_ms))
    return statement.join(agents, agents.c.id == collectors.c.agent_id).where(
        agents.c.online, collectors.c.interval_ms.is_not(None), is_worth_a_look
    )


def _checks_of(agent_id: str | None) -> sa.Select[Any]:
    statement = sa.select(checks).where(checks.c.enabled == sa.true()).order_by(checks.c.name, checks.c.id)
    if agent_id is not None:
        return statement.where(checks.c.agent_id == agent_id)
    return statement.join(agents, agents.c.id == checks.c.agent_id).where(
        agents.c.online, _is_quiet(checks.c.ran_at)
    )


def _is_quiet(newest_ms: sa.ColumnElement[int | None]) -> sa.ColumnElement[bool]:
    """Return the condition that data is older than the shortest silence that counts, by its agent's clock.

    And that its agent has been connected for as long: after a server's restart everybody's data is old.
    """
    shortest_ms = SHORTEST_SILENCE // _MILLISECOND
    by_its_clock = now_ms() + sa.func.coalesce(agents.c.clock_skew_ms, 0)
    return sa.and_(
        sa.or_(newest_ms.is_(None), by_its_clock - newest_ms > shortest_ms),
        sa.func.coalesce(agents.c.connected_at, 0) < now_ms() - shortest_ms,
    )


def _gaps_of(agent_id: str | None) -> sa.Select[Any]:
    statement = sa.select(gaps).order_by(gaps.c.recorded_at.desc(), gaps.c.to_ms.desc(), gaps.c.digest)
    if agent_id is not None:
        return statement.where(gaps.c.agent_id == agent_id)
    return statement.where(gaps.c.recorded_at > now_ms() - GAP_COUNTS_FOR // _MILLISECOND)


def _refused_of(agent_id: str | None) -> sa.Select[Any]:
    statement = sa.select(item_refusals).order_by(
        item_refusals.c.last_at.desc(), item_refusals.c.kind, item_refusals.c.reason
    )
    if agent_id is not None:
        return statement.where(item_refusals.c.agent_id == agent_id)
    return statement.where(item_refusals.c.last_at > now_ms() - REFUSAL_COUNTS_FOR // _MILLISECOND)


async def _facts(
    connection: AsyncConnection, agent_ids: Sequence[str], found: _Found, *, only_online: bool
) -> list[HealthFacts]:
    """Return the facts of those agents that are there, and connected if that is asked for."""
    statement = sa.select(
        agents.c.id, agents.c.clock_skew_ms, agents.c.connected_at, _DELIVERED_AT, now_ms().label("now")
    ).where(agents.c.id.in_(agent_ids))
    if only_online:
        statement = statement.where(agents.c.status == AgentStatus.ACTIVE.value, is_online())
    rows = await connection.execute(statement.order_by(agents.c.id))
    return [
        HealthFacts(
            agent_id=row.id,
            now=from_ms(row.now),
            clock_skew=(row.clock_skew_ms or 0) * _MILLISECOND,
            connected_at=maybe_from_ms(row.connected_at),
            delivered_at=maybe_from_ms(row.delivered_at),
            collectors=found.collectors.get(row.id, ()),
            checks=found.checks.get(row.id, ()),
            gaps=found.gaps.get(row.id, ()),
            refused=found.refused.get(row.id, ()),
        )
        for row in rows
    ]


def _collector(row: sa.Row[Any]) -> CollectorHealth:
    return CollectorHealth(
        name=row.name,
        interval=None if row.interval_ms is None else row.interval_ms * _MILLISECOND,
        problem=row.problem,
        running_since=maybe_from_ms(row.running_since),
        newest_at=maybe_from_ms(row.newest_ms),
        stored_at=maybe_from_ms(row.stored_at),
    )
