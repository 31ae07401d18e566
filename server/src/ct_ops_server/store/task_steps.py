"""Tasks in one transaction: locked in the order of their ids, changed by the table, written at once.

Whatever happens to tasks, however many and of however many agents, is one SELECT and one UPDATE; what
follows from what is decided by ``fleet.tasks.after`` alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.items import TaskResult
from ct_ops_server.fleet.tasks import (
    LEASE,
    Event,
    Nothing,
    SignOfLife,
    Step,
    TaskFacts,
    TaskState,
    after,
)
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, now_ms
from ct_ops_server.store.work_tables import tasks

_LEASE_MS = round(LEASE.total_seconds() * 1000)

is_overdue = (tasks.c.expires_at <= now_ms()).label("is_overdue")
lease_is_out = (sa.func.coalesce(tasks.c.lease_until, 0) <= now_ms()).label("lease_is_out")
_age = (now_ms() - tasks.c.due_at).label("age_ms")
with_facts = sa.select(tasks, is_overdue, lease_is_out, _age)

_steps = row_set(
    "steps",
    task_id=sa.Text(),
    state=sa.Text(),
    attempt=Integer64,
    leases=Integer64,
    accepts=Integer64,
    is_sent=Integer64,
    is_new_attempt=Integer64,
    sent_generation=Integer64,
    result_attempt=Integer64,
    exit_code=Integer64,
    result_json=sa.Text(),
    error=sa.Text(),
    refused=sa.Text(),
    output_chars=Integer64,
    output_chunks=Integer64,
    output_is_cut=Integer64,
)
_is_open = _steps.c.state.in_([state.value for state in TaskState if state.is_open])
_WRITE = (
    tasks.update()
    .where(tasks.c.id == _steps.c.task_id)
    .values(
        state=_steps.c.state,
        attempt=_steps.c.attempt,
        lease_until=sa.case((_steps.c.leases == 1, now_ms() + _LEASE_MS), else_=tasks.c.lease_until),
        sent_at=sa.case((_steps.c.is_sent == 1, now_ms()), else_=tasks.c.sent_at),
        sent_generation=_steps.c.sent_generation,
        accepted_at=sa.case(
            (_steps.c.is_new_attempt == 1, sa.null()),
            (_steps.c.accepts == 1, sa.func.coalesce(tasks.c.accepted_at, now_ms())),
            else_=tasks.c.accepted_at,
        ),
        due_at=sa.case((_steps.c.state == TaskState.WAITING.value, now_ms()), else_=tasks.c.due_at),
        ended_at=sa.case((_is_open, sa.null()), else_=sa.func.coalesce(tasks.c.ended_at, now_ms())),
        result_attempt=_steps.c.result_attempt,
        exit_code=_steps.c.exit_code,
        result_json=_steps.c.result_json,
        error=_steps.c.error,
        refused=_steps.c.refused,
        output_chars=_steps.c.output_chars,
        output_chunks=_steps.c.output_chunks,
        output_is_cut=_steps.c.output_is_cut == 1,
    )
)


@dataclass(slots=True)
class Held:
    """A locked task."""

    row: sa.Row[Any]
    facts: TaskFacts
    agent_id: str
    output_chars: int
    output_chunks: int
    output_is_cut: bool
    leases: bool = False
    accepts: bool = False
    is_changed: bool = False
    sent_generation: int | None = None
    """The stream that it is pushed to."""
    result: TaskResult | None = None


@dataclass(slots=True)
class LockedTasks:
    """Tasks of one transaction."""

    _held: dict[str, Held] = field(default_factory=dict)

    @classmethod
    async def lock(cls, connection: AsyncConnection, ids: Iterable[str]) -> LockedTasks:
        """Read these tasks and keep everybody else from changing them until the commit."""
        return await cls.lock_where(connection, tasks.c.id.in_(sorted(set(ids))))

    @classmethod
    async def lock_where(
        cls, connection: AsyncConnection, *conditions: sa.ColumnElement[bool], limit: int | None = None
    ) -> LockedTasks:
        """Read and lock the tasks for which the conditions hold."""
        statement = with_facts.where(*conditions).order_by(tasks.c.id).limit(limit).with_for_update()
        rows = await connection.execute(statement)
        return cls({row.id: _hold(row) for row in rows})

    def of(self, agent_id: str, task_id: str) -> Held | None:
        """Return a task of this agent; somebody else's and none at all look the same."""
        held = self._held.get(task_id)
        return held if held is not None and held.agent_id == agent_id else None

    def each(self) -> Iterable[Held]:
        """Return every one, by id."""
        return self._held.values()

    async def write(self, connection: AsyncConnection) -> None:
        """Write what has changed."""
        rows = [_changed_row(held) for held in self._held.values() if held.is_changed]
        if rows:
            await connection.execute(_WRITE, bind_rows("steps", rows))


def take(held: Held, event: Event, result: TaskResult | None = None) -> Step | Nothing:
    """Let the table decide what ``event`` makes of a task, and make it."""
    step = after(held.facts, event)
    if isinstance(step, Nothing):
        return step
    held.is_changed = True
    held.leases |= step.leases
    held.accepts |= isinstance(event, SignOfLife)
    held.facts = replace(held.facts, state=step.to, attempt=step.attempt)
    if step.keeps_result and result is not None:
        held.result = result
        held.facts = replace(held.facts, result_attempt=result.attempt or step.attempt)
    return step


def facts_of(row: sa.Row[Any]) -> TaskFacts:
    """Return what the table looks at."""
    return TaskFacts(
        task_type=row.task_type,
        state=TaskState(row.state),
        attempt=row.attempt,
        is_overdue=bool(row.is_overdue),
        lease_is_out=bool(row.lease_is_out),
        result_attempt=row.result_attempt,
    )


def _hold(row: sa.Row[Any]) -> Held:
    return Held(
        row, facts_of(row), row.agent_id, row.output_chars, row.output_chunks, bool(row.output_is_cut)
    )


def _changed_row(held: Held) -> dict[str, Any]:
    row, facts, result = held.row, held.facts, held.result
    return {
        "task_id": row.id,
        "state": facts.state.value,
        "attempt": facts.attempt,
        "leases": int(held.leases),
        "accepts": int(held.accepts or result is not None),
        "is_sent": int(held.sent_generation is not None),
        "is_new_attempt": int(facts.attempt != row.attempt),
        "sent_generation": row.sent_generation if held.sent_generation is None else held.sent_generation,
        "result_attempt": facts.result_attempt,
        "exit_code": row.exit_code if result is None else result.exit_code,
        "result_json": row.result_json if result is None else result.result_json,
        "error": row.error if result is None else result.error,
        "refused": row.refused if result is None else result.refused,
        "output_chars": held.output_chars,
        "output_chunks": held.output_chunks,
        "output_is_cut": int(held.output_is_cut),
    }
