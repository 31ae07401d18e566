"""Checks as operators define them, and what came of them: ``fleet.check_ports.CheckStore``.

Every change of a definition takes a number and tells the push bus of every process, in its own
transaction. What results do to a check's row is in ``check_results``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet import decisions
from ct_ops_server.fleet.check_delivery import TOPIC
from ct_ops_server.fleet.check_model import (
    MOST_CHECKS,
    MOST_CONFIG_CHARS,
    Check,
    CheckFreshness,
    CheckLimitError,
    CheckOwnerMissingError,
    NewCheck,
    StoredDefinition,
    StoredResult,
)
from ct_ops_server.fleet.items import CheckStatus
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.audit import append
from ct_ops_server.store.check_results import prune_chunk
from ct_ops_server.store.check_tables import check_changes, check_results, checks, removed_checks
from ct_ops_server.store.check_values import check_from, definition_from, freshness_from, new_check_values
from ct_ops_server.store.counters import raise_counter, read_counter
from ct_ops_server.store.database import Database
from ct_ops_server.store.listening import notify
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import agents, now_ms
from ct_ops_server.store.upsert import upsert
from ct_ops_server.store.values import from_ms
from ct_ops_server.store.writer import GroupWriter

_COUNTER = "checks"
_MOST_FOUND = 10
"""Enough to say that a selector is ambiguous, and between which."""
_REMOVED_KEPT = timedelta(days=30)
"""Longer than an agent keeps what it could not deliver."""
_MILLISECOND = timedelta(milliseconds=1)

_of_agents = row_set("of_agents", agent_id=sa.Text())
_SELECT = sa.select(checks, agents.c.hostname).join(agents, agents.c.id == checks.c.agent_id)
_CHANGED = (
    sa.select(check_changes.c.agent_id)
    .where(check_changes.c.number > sa.bindparam("known"))
    .order_by(check_changes.c.number)
)
_FORGET_REMOVED = removed_checks.delete().where(
    removed_checks.c.removed_at < now_ms() - _REMOVED_KEPT // _MILLISECOND
)
_EVER_DEFINED = sa.select(check_changes.c.agent_id).where(
    check_changes.c.agent_id.in_(sa.select(_of_agents.c.agent_id))
)
_DEFINITIONS = (
    sa.select(checks)
    .where(checks.c.agent_id.in_(sa.select(_of_agents.c.agent_id)), checks.c.enabled == sa.true())
    .order_by(checks.c.id)
)


class SqlCheckStore:
    """``fleet.check_ports.CheckStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def add_check(self, new: NewCheck, *, actor: str) -> Check:
        """Store a check, enabled, and number the change.

        Raises:
            CheckLimitError: the agent has as many as it may have, or they are too large together.
            CheckOwnerMissingError: there is no such agent, or it was revoked.
        """

        async def add(connection: AsyncConnection) -> Check:
            # The counter first: whoever adds to the same agent waits here, so that the limits hold.
            number = await raise_counter(connection, _COUNTER)
            await _see_agent(connection, new.agent_id)
            await _see_limits(connection, new)
            await connection.execute(checks.insert().values(new_check_values(new, actor=actor)))
            await _note_change(connection, new.agent_id, number)
            await append(connection, [decisions.check_added(new, actor=actor)])
            return check_from((await connection.execute(_SELECT.where(checks.c.id == new.id))).one())

        return await self._writer.run(add)

    async def set_enabled(self, check_id: str, *, enabled: bool, actor: str) -> bool | None:
        """Enable or disable a check, and number the change. False: it was so already; None: no such check."""

        async def change(connection: AsyncConnection) -> bool | None:
            number = await raise_counter(connection, _COUNTER)
            changed = (
                checks.update()
                .where(checks.c.id == check_id, checks.c.enabled != enabled)
                .values(enabled=enabled, changed_at=now_ms(), changed_by=actor)
                .returning(checks.c.agent_id, checks.c.name)
            )
            row = (await connection.execute(changed)).first()
            if row is None:
                there = await connection.scalar(sa.select(checks.c.id).where(checks.c.id == check_id))
                return None if there is None else False
            await _note_change(connection, row.agent_id, number)
            switched = decisions.check_switched(
                check_id, row.agent_id, row.name, enabled=enabled, actor=actor
            )
            await append(connection, [switched])
            return True

        return await self._writer.run(change)

    async def remove_check(self, check_id: str, *, actor: str) -> bool:
        """Remove a check and its results, and number the change. False: there is none."""

        async def remove(connection: AsyncConnection) -> bool:
            number = await raise_counter(connection, _COUNTER)
            gone = checks.delete().where(checks.c.id == check_id).returning(checks.c.agent_id, checks.c.name)
            row = (await connection.execute(gone)).first()
            if row is None:
                return False
            left = {"id": check_id, "agent_id": row.agent_id, "name": row.name, "removed_by": actor}
            await connection.execute(removed_checks.insert().values(left | {"removed_at": now_ms()}))
            await connection.execute(_FORGET_REMOVED)
            await _note_change(connection, row.agent_id, number)
            await append(connection, [decisions.check_removed(check_id, row.agent_id, row.name, actor=actor)])
            return True

        return await self._writer.run(remove)

    async def find_checks(self, selector: str) -> Sequence[Check]:
        """Checks whose id is ``selector``, else whose id starts with it, else with exactly this name."""
        starts = sa.func.substr(checks.c.id, 1, len(selector)) == selector
        conditions = [checks.c.id == selector, starts, checks.c.name == selector] if selector else []
        async with self._database.reading() as connection:
            for condition in conditions:
                statement = _SELECT.where(condition).order_by(checks.c.id).limit(_MOST_FOUND)
                if rows := (await connection.execute(statement)).all():
                    return [check_from(row) for row in rows]
        return []

    async def list_checks(self, *, agent_id: str | None = None) -> Sequence[Check]:
        """Checks of one agent or of all, by hostname, name and id."""
        statement = _SELECT if agent_id is None else _SELECT.where(checks.c.agent_id == agent_id)
        async with self._database.reading() as connection:
            found = [check_from(row) for row in await connection.execute(statement)]
        # Here and not by ORDER BY: each database sorts text by its own locale.
        return sorted(found, key=lambda check: (check.hostname, check.name, check.id))

    async def check_results(
        self,
        *,
        check_id: str | None = None,
        agent_id: str | None = None,
        newer_than: timedelta | None = None,
        limit: int,
    ) -> Sequence[StoredResult]:
        """Return results of one check or of all of an agent's, newest run first."""
        statement = (
            sa.select(check_results, checks.c.agent_id, checks.c.name)
            .join(checks, checks.c.id == check_results.c.check_id)
            .order_by(check_results.c.ran_at.desc(), check_results.c.check_id)
            .limit(limit)
        )
        if check_id is not None:
            statement = statement.where(check_results.c.check_id == check_id)
        if agent_id is not None:
            statement = statement.where(checks.c.agent_id == agent_id)
        if newer_than is not None:
            statement = statement.where(check_results.c.ran_at > now_ms() - newer_than // _MILLISECOND)
        async with self._database.reading() as connection:
            return [_result(row) for row in await connection.execute(statement)]

    async def prune_results(self, *, keep: int) -> int:
        """Forget all but the newest ``keep`` of each check, in a bounded chunk; return how many are gone."""
        if not await self._has_too_many(keep):
            return 0  # most often: nobody waits for the writer for nothing

        async def prune(connection: AsyncConnection) -> int:
            return await prune_chunk(connection, keep=keep)

        return await self._writer.run(prune)

    async def last_change(self) -> int:
        """Return the number of the latest change, 0 when there never was one."""
        async with self._database.reading() as connection:
            return await read_counter(connection, _COUNTER)

    async def agents_changed_after(self, number: int) -> Sequence[str]:
        """Return the agents whose definitions changed later than that."""
        async with self._database.reading() as connection:
            return list(await connection.scalars(_CHANGED, {"known": number}))

    async def definitions(self, agent_ids: Sequence[str]) -> Mapping[str, Sequence[StoredDefinition]]:
        """Return the enabled checks of these agents; an empty list where there are none any more."""
        if not agent_ids:
            return {}
        wanted = bind_rows("of_agents", [{"agent_id": agent_id} for agent_id in agent_ids])
        found = dict[str, list[StoredDefinition]]()
        async with self._database.reading() as connection:
            for agent_id in await connection.scalars(_EVER_DEFINED, wanted):
                found[agent_id] = []
            for row in await connection.execute(_DEFINITIONS, wanted):
                found.setdefault(row.agent_id, []).append(definition_from(row))
        return found

    async def freshness(self, *, agent_id: str | None = None) -> Sequence[CheckFreshness]:
        """Return when each enabled check of one agent, or of all, last had a result."""
        statement = sa.select(checks).where(checks.c.enabled == sa.true()).order_by(checks.c.id)
        if agent_id is not None:
            statement = statement.where(checks.c.agent_id == agent_id)
        async with self._database.reading() as connection:
            return [freshness_from(row) for row in await connection.execute(statement)]

    async def _has_too_many(self, keep: int) -> bool:
        too_many = sa.select(checks.c.id).where(checks.c.kept > keep + keep // 10).limit(1)
        async with self._database.reading() as connection:
            return await connection.scalar(too_many) is not None


async def _see_agent(connection: AsyncConnection, agent_id: str) -> None:
    """Keep the agent from being deleted meanwhile."""
    locked = sa.select(agents.c.status).where(agents.c.id == agent_id)
    status = await connection.scalar(locked.with_for_update(read=True, key_share=True))
    if status is None or status == AgentStatus.REVOKED.value:
        raise CheckOwnerMissingError


async def _see_limits(connection: AsyncConnection, new: NewCheck) -> None:
    taken = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(checks.c.config)), 0))
    count, chars = (await connection.execute(taken.where(checks.c.agent_id == new.agent_id))).one()
    if count >= MOST_CHECKS:
        raise CheckLimitError(
            f"the agent has {count} checks already, and it may have {MOST_CHECKS}; remove one"
        )
    if chars + len(new.config) > MOST_CONFIG_CHARS:
        raise CheckLimitError(
            f"the agent's checks together would be longer than {MOST_CONFIG_CHARS} characters; remove one, "
            "or shorten its configuration"
        )


async def _note_change(connection: AsyncConnection, agent_id: str, number: int) -> None:
    """Have every process hand the agent its definitions, once the transaction is committed."""
    row = {"agent_id": agent_id, "number": number}
    await connection.execute(upsert(connection, check_changes, row, key="agent_id"))
    await notify(connection, TOPIC)


def _result(row: sa.Row[Any]) -> StoredResult:
    return StoredResult(
        agent_id=row.agent_id,
        check_id=row.check_id,
        name=row.name,
        status=CheckStatus(row.status),
        output=row.output,
        duration=row.duration_ms * _MILLISECOND,
        ran_at=from_ms(row.ran_at),
        received_at=from_ms(row.received_at),
    )
