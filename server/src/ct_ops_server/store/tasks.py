"""Tasks: ``fleet.work_ports.TaskStore``. What happens to them is decided by ``fleet.tasks``, see ``task_steps``.

A push is claimed before it is made, in one transaction for all streams of the process: two processes
cannot push the same attempt, and what was pushed has a lease from that moment. Reading comes first, so
that looking for work and finding none writes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet import decisions
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.orders import MOST_OPEN_TASKS, NewTask, TaskOutput, TaskRecord
from ct_ops_server.fleet.pushes import OpenTask, Push, next_push, to_cancel
from ct_ops_server.fleet.tasks import LEASED, OPEN, CancelAsked, Nothing, Pushed, TaskState, TimePassed
from ct_ops_server.fleet.work import AskedTask
from ct_ops_server.fleet.work_ports import TOPIC, DueTasks, TooManyOpenError
from ct_ops_server.store.audit import append
from ct_ops_server.store.database import Database
from ct_ops_server.store.listening import notify
from ct_ops_server.store.live_streams import bind_streams, by_agent, is_current, streams, with_something
from ct_ops_server.store.schema import agents, now_ms
from ct_ops_server.store.task_steps import Held, LockedTasks, facts_of, is_overdue, lease_is_out, take
from ct_ops_server.store.values import from_ms, maybe_from_ms
from ct_ops_server.store.work_tables import task_progress, tasks
from ct_ops_server.store.writer import GroupWriter

_MILLISECOND = timedelta(milliseconds=1)
_MOST_FOUND = 10
_KEPT_PER_AGENT = 200
_SWEPT_AT_ONCE = 500

_is_open = tasks.c.state.in_([state.value for state in sorted(OPEN)])
_is_leased = tasks.c.state.in_([state.value for state in sorted(LEASED)])
_of_streams = (
    sa.select(tasks, is_overdue, lease_is_out)
    .select_from(streams)
    .join(agents, is_current)
    .join(tasks, tasks.c.agent_id == agents.c.id)
    .where(_is_open)
    .order_by(tasks.c.created_at, tasks.c.id)
)
_BUSY = sa.select(tasks.c.agent_id).where(_is_open).distinct()
_time_is_over = sa.or_(
    sa.and_(tasks.c.state == TaskState.WAITING.value, tasks.c.expires_at <= now_ms()),
    sa.and_(_is_leased, tasks.c.lease_until <= now_ms()),
)
_records = sa.select(tasks, agents.c.hostname).join(agents, agents.c.id == tasks.c.agent_id)
_youngest_first = (tasks.c.created_at.desc(), tasks.c.id)


class SqlTaskStore:
    """``fleet.work_ports.TaskStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def give(self, task: NewTask) -> None:
        """Keep a task; hint every process at it with the commit."""

        async def keep(connection: AsyncConnection) -> None:
            await _make_room(connection, task.agent_id)
            await connection.execute(tasks.insert().values(_row(task)))
            await append(connection, [decisions.task_given(task)])
            await notify(connection, TOPIC)

        await self._writer.run(keep)

    async def find_tasks(self, selector: str) -> Sequence[TaskRecord]:
        """Return those whose id is ``selector``, else whose id begins with it; at most a few."""
        begins = sa.func.substr(tasks.c.id, 1, len(selector)) == selector
        conditions = [tasks.c.id == selector, begins] if selector else []
        async with self._database.reading() as connection:
            for condition in conditions:
                statement = _records.where(condition).order_by(tasks.c.id).limit(_MOST_FOUND)
                if rows := (await connection.execute(statement)).all():
                    return [_record(row) for row in rows]
        return []

    async def list_tasks(self, *, agent_id: str | None, limit: int) -> Sequence[TaskRecord]:
        """Return the latest, youngest first."""
        statement = _records if agent_id is None else _records.where(tasks.c.agent_id == agent_id)
        async with self._database.reading() as connection:
            rows = await connection.execute(statement.order_by(*_youngest_first).limit(limit))
            return [_record(row) for row in rows]

    async def output(self, task_id: str, *, start: int) -> TaskOutput:
        """Return what the latest attempt has said from ``start`` on, as far as it has no hole."""
        ends_at = task_progress.c.position + sa.func.length(task_progress.c.chunk)
        statement = (
            sa.select(tasks.c.attempt, task_progress.c.position, task_progress.c.chunk)
            .join(
                task_progress,
                sa.and_(task_progress.c.task_id == tasks.c.id, task_progress.c.attempt == tasks.c.attempt),
            )
            .where(tasks.c.id == task_id, ends_at > start)
            .order_by(task_progress.c.position)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).all()
        return joined([(row.position, row.chunk) for row in rows], start, rows[0].attempt if rows else 0)

    async def cancel_task(self, task_id: str, *, actor: str) -> TaskState | None:
        """Cancel it when the table allows that; return the state found, None without such a task."""

        async def cancel(connection: AsyncConnection) -> TaskState | None:
            locked = await LockedTasks.lock(connection, [task_id])
            for held in locked.each():
                found = held.facts.state
                if not isinstance(take(held, CancelAsked()), Nothing):
                    by = tasks.update().where(tasks.c.id == task_id).values(cancelled_by=actor)
                    await connection.execute(by)
                    await locked.write(connection)
                    cancelled = decisions.task_cancelled(task_id, held.row.agent_id, actor=actor)
                    await append(connection, [cancelled])
                    await notify(connection, TOPIC)
                return found
            return None

        return await self._writer.run(cancel)

    async def due_tasks(self, live: Sequence[LiveStream]) -> DueTasks:
        """Claim what these streams are to be pushed, at most one each, none for an agent that has one."""
        youngest = by_agent(live)
        async with self._database.reading() as connection:
            found = await _open_of(connection, youngest)
        cancelled = {stream: ids for stream, rows in found.items() if (ids := to_cancel(_as_open(rows)))}
        wanted = {stream.agent_id: stream for stream, rows in found.items() if _next(stream, rows)}
        if not wanted:
            return DueTasks({}, cancelled)

        async def claim(connection: AsyncConnection) -> dict[LiveStream, AskedTask]:
            return await _claim(connection, wanted)

        return DueTasks(await self._writer.run(claim), cancelled)

    async def sweep_tasks(self) -> Mapping[TaskState, int]:
        """Apply the passing of time; return how many tasks came to which state."""
        async with self._database.reading() as connection:
            if await connection.scalar(sa.select(tasks.c.id).where(_is_open, _time_is_over).limit(1)) is None:
                return {}

        async def sweep(connection: AsyncConnection) -> Mapping[TaskState, int]:
            locked = await LockedTasks.lock_where(connection, _is_open, _time_is_over, limit=_SWEPT_AT_ONCE)
            moved = [held for held in locked.each() if not isinstance(take(held, TimePassed()), Nothing)]
            await locked.write(connection)
            if any(held.facts.state is TaskState.WAITING for held in moved):
                await notify(connection, TOPIC)
            return Counter(held.facts.state for held in moved)

        return await self._writer.run(sweep)

    async def count_tasks(self) -> Mapping[TaskState, int]:
        """Return how many tasks there are in each open state."""
        statement = sa.select(tasks.c.state, sa.func.count()).where(_is_open).group_by(tasks.c.state)
        async with self._database.reading() as connection:
            counted = {row[0]: row[1] for row in await connection.execute(statement)}
        return {state: counted.get(state.value, 0) for state in sorted(OPEN)}


def joined(chunks: Sequence[tuple[int, str]], start: int, attempt: int) -> TaskOutput:
    """Return the text from ``start`` on, up to the first hole; from after the hole when it is at the start."""
    if not chunks:
        return TaskOutput(attempt, "", start)
    starts_at = ends_at = max(start, chunks[0][0])
    text = ""
    for position, chunk in chunks:
        if position > ends_at:
            break
        text += chunk[ends_at - position :]
        ends_at = starts_at + len(text)
    return TaskOutput(attempt, text, starts_at)


async def _open_of(
    connection: AsyncConnection, youngest: Mapping[str, LiveStream], *, lock: bool = False
) -> dict[LiveStream, list[sa.Row[Any]]]:
    statement = _of_streams.with_for_update(of=tasks) if lock else _of_streams
    found = defaultdict[LiveStream, list[sa.Row[Any]]](list)
    busy = await with_something(connection, youngest, _BUSY)
    if not busy:
        return found
    for row in await connection.execute(statement, bind_streams(busy)):
        found[youngest[row.agent_id]].append(row)
    return found


async def _claim(
    connection: AsyncConnection, youngest: Mapping[str, LiveStream]
) -> dict[LiveStream, AskedTask]:
    """Choose again, among rows that nobody else can change now, and count what is chosen as pushed."""
    found = await _open_of(connection, youngest, lock=True)
    pushes = {stream: push for stream, rows in found.items() if (push := _next(stream, rows))}
    locked = await LockedTasks.lock(connection, (push.task_id for push in pushes.values()))
    claimed = {
        stream: _push(held, stream, push)
        for stream, push in pushes.items()
        if (held := locked.of(stream.agent_id, push.task_id))
    }
    await locked.write(connection)
    return claimed


def _push(held: Held, stream: LiveStream, push: Push) -> AskedTask:
    take(held, push.event)
    held.sent_generation = stream.generation
    age = None
    if isinstance(push.event, Pushed):
        age = max(held.row.age_ms, 0) * _MILLISECOND
        held.output_chars, held.output_chunks, held.output_is_cut = 0, 0, False
    row = held.row
    return AskedTask(row.id, row.task_type, row.config_json, held.facts.attempt, age)


def _next(stream: LiveStream, rows: Sequence[sa.Row[Any]]) -> Push | None:
    return next_push(stream, _as_open(rows))


def _as_open(rows: Sequence[sa.Row[Any]]) -> list[OpenTask]:
    return [OpenTask(row.id, facts_of(row), row.sent_generation) for row in rows]


async def _make_room(connection: AsyncConnection, agent_id: str) -> None:
    """Forget this agent's oldest ended tasks. An agent that is away does not collect tasks without end."""
    count = sa.select(sa.func.count()).where(tasks.c.agent_id == agent_id, _is_open)
    if (await connection.scalar(count) or 0) >= MOST_OPEN_TASKS:
        raise TooManyOpenError
    of_agent = sa.and_(tasks.c.agent_id == agent_id, sa.not_(_is_open))
    kept = sa.select(tasks.c.id).where(of_agent).order_by(*_youngest_first).limit(_KEPT_PER_AGENT)
    await connection.execute(tasks.delete().where(of_agent, tasks.c.id.not_in(kept.scalar_subquery())))


def _row(task: NewTask) -> dict[str, Any]:
    return {
        "id": task.id,
        "agent_id": task.agent_id,
        "task_type": task.task_type,
        "config_json": task.config_json,
        "state": TaskState.WAITING.value,
        "attempt": 0,
        "created_at": now_ms(),
        "created_by": task.actor,
        "expires_at": now_ms() + task.lifetime // _MILLISECOND,
        "due_at": now_ms(),
        "sent_generation": 0,
        "output_chars": 0,
        "output_chunks": 0,
        "output_is_cut": False,
        "result_attempt": 0,
    }


def _record(row: sa.Row[Any]) -> TaskRecord:
    return TaskRecord(
        id=row.id,
        agent_id=row.agent_id,
        hostname=row.hostname,
        task_type=row.task_type,
        config_json=row.config_json,
        state=TaskState(row.state),
        attempt=row.attempt,
        created_at=from_ms(row.created_at),
        created_by=row.created_by,
        expires_at=from_ms(row.expires_at),
        sent_at=maybe_from_ms(row.sent_at),
        accepted_at=maybe_from_ms(row.accepted_at),
        ended_at=maybe_from_ms(row.ended_at),
        cancelled_by=row.cancelled_by or "",
        exit_code=row.exit_code,
        result_json=row.result_json or "",
        error=row.error or "",
        refused=row.refused or "",
        output_chars=row.output_chars,
        output_is_cut=bool(row.output_is_cut),
    )
