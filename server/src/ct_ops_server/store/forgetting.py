"""Forgetting: records that are past keeping, of every table that time bounds; samples are ``store.retention``'s.

One small statement for each table, in a transaction of its own, as often as it removes as many as it may at once.
What bounds the other tables says ``store.bounds``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.carried_tables import carried_requests
from ct_ops_server.store.sample_tables import collectors
from ct_ops_server.store.schema import agents, endings, now_ms, status_history, tokens, tombstones
from ct_ops_server.store.upkeep import Upkeep
from ct_ops_server.store.work_tables import queries

QUERIES_KEEP = timedelta(days=1)
ENDINGS_KEEP = timedelta(days=7)
CARRIED_KEEP = timedelta(days=32)
"""A request may be of tomorrow when it is answered, and is too old 30 days later: one more for clocks."""

_MILLISECOND = timedelta(milliseconds=1)
_ROWS = 1_000
_limit: sa.BindParameter[int] = sa.bindparam("rows")
_before = now_ms() - sa.bindparam("keep_ms")


@dataclass(frozen=True, slots=True)
class RecordsKeep:
    """How long records are kept."""

    collectors: timedelta = timedelta(days=2)
    """Of a collector that runs no more, its last state."""
    tokens: timedelta = timedelta(days=90)
    """Of an enrolment token, after it ended."""
    history: timedelta = timedelta(days=730)
    """Of what was decided on agents, and of those that were deleted."""


RECORDS_KEEP = RecordsKeep()


def _old(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.Delete:
    keys = list(table.primary_key)
    found = sa.select(*keys).where(*conditions).limit(_limit)
    return table.delete().where(sa.tuple_(*keys).in_(found))


def _ended_tokens() -> sa.Delete:
    """Revoked, expired or used up before then; when it was used up tells the youngest agent that it admitted."""
    used_lately = sa.exists().where(agents.c.token_id == tokens.c.id, agents.c.created_at >= _before)
    used_up = sa.and_(tokens.c.uses >= tokens.c.max_uses, tokens.c.created_at < _before, sa.not_(used_lately))
    return _old(tokens, sa.or_(tokens.c.revoked_at < _before, tokens.c.expires_at < _before, used_up))


def _old_history() -> sa.Delete:
    """All but the latest of each agent: it says why the agent is what it is."""
    later = status_history.alias("later")
    has_later = sa.exists().where(
        later.c.agent_id == status_history.c.agent_id, later.c.id > status_history.c.id
    )
    return _old(status_history, status_history.c.at < _before, has_later)


def _old_tombstones() -> sa.Delete:
    """Those of revoked agents bar their keys for good."""
    is_barred = tombstones.c.status == AgentStatus.REVOKED.value
    return _old(tombstones, tombstones.c.deleted_at < _before, sa.not_(is_barred))


_STATEMENTS: Mapping[str, sa.Delete] = {
    "collectors": _old(collectors, collectors.c.interval_ms.is_(None), collectors.c.stored_at < _before),
    "tokens": _ended_tokens(),
    "status_history": _old_history(),
    "tombstones": _old_tombstones(),
    "queries": _old(queries, queries.c.created_at < _before),
    "endings": _old(endings, endings.c.at < _before),
    "carried_requests": _old(carried_requests, carried_requests.c.answered_at < _before),
}


class Forgetting:
    """Removes records that are past keeping."""

    def __init__(
        self,
        upkeep: Upkeep,
        *,
        keep: RecordsKeep = RECORDS_KEEP,
        rows: int = _ROWS,
        removed: Callable[[str, int], None] = lambda _table, _rows: None,
    ) -> None:
        """Prepare it; ``removed`` is told how many rows of which table are gone."""
        self._upkeep = upkeep
        self._rows = rows
        self._removed = removed
        self._keep = {
            "collectors": keep.collectors,
            "tokens": keep.tokens,
            "status_history": keep.history,
            "tombstones": keep.history,
            "queries": QUERIES_KEEP,
            "endings": ENDINGS_KEEP,
            "carried_requests": CARRIED_KEEP,
        }

    async def make_pass(self) -> None:
        """Forget everything that is past keeping.

        Raises:
            StoreError: the store did not answer.
        """
        for table, statement in _STATEMENTS.items():
            which = {"keep_ms": self._keep[table] // _MILLISECOND, "rows": self._rows}
            count = self._rows
            while count >= self._rows:
                count, _ = await self._upkeep.step(partial(_forget, statement=statement, which=which))
                self._removed(table, count)


async def _forget(connection: AsyncConnection, *, statement: sa.Delete, which: Mapping[str, Any]) -> int:
    return (await connection.execute(statement, which)).rowcount
