"""What ``fleet.health`` decides from, read for one agent, or for all that may be degraded.

For the whole fleet only the rows are read that can make a host degraded: what is younger than the
shortest silence that counts cannot. So a healthy fleet costs two index scans, whatever its size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.delivery import RefusedItems, StoredGap
from ct_ops_server.fleet.health import (
    GAP_COUNTS_FOR,
    REFUSAL_COUNTS_FOR,
    SHORTEST_SILENCE,
    CheckHealth,
    CollectorHealth,
    HealthFacts,
)
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.database import Database
from ct_ops_server.store.delivery_tables import gaps, item_refusals
from ct_ops_server.store.gaps import gap_from
from ct_ops_server.store.item_refusals import refused_items_from
from ct_ops_server.store.presence import is_online
from ct_ops_server.store.sample_tables import collectors
from ct_ops_server.store.schema import agents, now_ms
from ct_ops_server.store.values import from_ms, maybe_from_ms

_MILLISECOND = timedelta(milliseconds=1)


class CheckReader(Protocol):
    """Reads the checks that agents should be running: the store of checks."""

    async def __call__(
        self, connection: AsyncConnection, agent_id: str | None, /
    ) -> Iterable[tuple[str, CheckHealth]]:
        """Return the enabled checks of one agent, or of all; each with its agent's id."""


async def no_checks(_connection: AsyncConnection, _agent_id: str | None) -> Iterable[tuple[str, CheckHealth]]:
    """Read none."""
    return ()


@dataclass
class _Found:
    """Rows by agent."""

    collectors: defaultdict[str, list[CollectorHealth]] = field(default_factory=lambda: defaultdict(list))
    checks: defaultdict[str, list[CheckHealth]] = field(default_factory=lambda: defaultdict(list))
    gaps: defaultdict[str, list[StoredGap]] = field(default_factory=lambda: defaultdict(list))
    refused: defaultdict[str, list[RefusedItems]] = field(default_factory=lambda: defaultdict(list))

    def agent_ids(self) -> list[str]:
        return sorted({*self.collectors, *self.checks, *self.gaps, *self.refused})


class SqlHealthStore:
    """``fleet.health.HealthStore``."""

    def __init__(self, database: Database, read_checks: CheckReader = no_checks) -> None:
        self._database = database
        self._read_checks = read_checks

    async def facts_of(self, agent_id: str) -> HealthFacts | None:
        """Return everything about one agent, whether it is connected or not; None without an agent."""
        async with self._database.reading() as connection:
            found = await self._find(connection, agent_id)
            facts = await _facts(connection, [agent_id], found, only_online=False)
        return facts[0] if facts else None

    async def suspects(self) -> Sequence[HealthFacts]:
        """Return the facts of every connected agent that may be degraded, as far as they may make it so."""
        async with self._database.reading() as connection:
            found = await self._find(connection, None)
            return await _facts(connection, found.agent_ids(), found, only_online=True)

    async def _find(self, connection: AsyncConnection, agent_id: str | None) -> _Found:
        found = _Found()
        for row in await connection.execute(_collectors_of(agent_id)):
            found.collectors[row.agent_id].append(_collector(row))
        for row in await connection.execute(_gaps_of(agent_id)):
            found.gaps[row.agent_id].append(gap_from(row))
        for row in await connection.execute(_refused_of(agent_id)):
            found.refused[row.agent_id].append(refused_items_from(row))
        for owner, check in await self._read_checks(connection, agent_id):
            found.checks[owner].append(check)
        return found


def _collectors_of(agent_id: str | None) -> sa.Select[Any]:
    statement = sa.select(collectors).order_by(collectors.c.agent_id, collectors.c.name)
    if agent_id is not None:
        return statement.where(collectors.c.agent_id == agent_id)
    by_its_clock = now_ms() + sa.func.coalesce(agents.c.clock_skew_ms, 0)
    is_quiet = sa.or_(
        collectors.c.newest_ms.is_(None),
        by_its_clock - collectors.c.newest_ms > SHORTEST_SILENCE // _MILLISECOND,
    )
    return statement.join(agents, agents.c.id == collectors.c.agent_id).where(
        agents.c.online, collectors.c.interval_ms.is_not(None), sa.or_(collectors.c.problem != "", is_quiet)
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
    statement = sa.select(agents.c.id, agents.c.clock_skew_ms, now_ms().label("now")).where(
        agents.c.id.in_(agent_ids)
    )
    if only_online:
        statement = statement.where(agents.c.status == AgentStatus.ACTIVE.value, is_online())
    rows = await connection.execute(statement.order_by(agents.c.id))
    return [
        HealthFacts(
            agent_id=row.id,
            now=from_ms(row.now),
            clock_skew=(row.clock_skew_ms or 0) * _MILLISECOND,
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
