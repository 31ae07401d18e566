"""Who stores what agents say of their tasks (``store.items.ItemWriter``).

Register them in this order: an acceptance, then what was said, then the result. A result of the same
batch would otherwise close the door on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.items import Owned, TaskAccepted, TaskProgress, TaskResult
from ct_ops_server.fleet.tasks import (
    MAX_OUTPUT_CHARS,
    MAX_OUTPUT_CHUNKS,
    Ended,
    Nothing,
    Outcome,
    SignOfLife,
    Step,
)
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64
from ct_ops_server.store.task_steps import LockedTasks, take
from ct_ops_server.store.upsert import insert_from_if_absent
from ct_ops_server.store.work_tables import task_progress

_chunks = row_set("chunks", task_id=sa.Text(), attempt=Integer64, position=Integer64, chunk=sa.Text())


class TaskAcceptedWriter:
    """Lets a task run: its agent has taken an attempt."""

    async def apply(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        """Store them; return for each why it was refused."""
        locked = await LockedTasks.lock(connection, (_accepted(each).task_id for each in owned))
        outcomes = [_accept(locked, each) for each in owned]
        await locked.write(connection)
        return outcomes


class TaskProgressWriter:
    """Keeps what running tasks say, each piece once, up to a limit."""

    async def apply(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        """Store them; return for each why it was refused."""
        locked = await LockedTasks.lock(connection, (_progress(each).task_id for each in owned))
        chunks: dict[tuple[str, int, int], dict[str, Any]] = {}
        outcomes = [_say(locked, each, chunks) for each in owned]
        if chunks:
            statement = insert_from_if_absent(
                connection, task_progress, _chunks, key=("task_id", "attempt", "position")
            )
            await connection.execute(statement, bind_rows("chunks", list(chunks.values())))
        await locked.write(connection)
        return outcomes


class TaskResultWriter:
    """Ends tasks: the first result wins."""

    async def apply(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        """Store them; return for each why it was refused."""
        locked = await LockedTasks.lock(connection, (_ending(each).task_id for each in owned))
        outcomes = [_end(locked, each) for each in owned]
        await locked.write(connection)
        return outcomes


def outcome_of(result: TaskResult) -> Outcome:
    """Return what a result says."""
    if result.refused == "interrupted":
        return Outcome.INTERRUPTED
    went_well = result.exit_code == 0 and not result.error and not result.refused
    return Outcome.DONE if went_well else Outcome.FAILED


def _accept(locked: LockedTasks, owned: Owned) -> str | None:
    accepted = _accepted(owned)
    held = locked.of(owned.agent_id, accepted.task_id)
    return "not_yours" if held is None else _refusal(take(held, SignOfLife(accepted.attempt)))


def _say(locked: LockedTasks, owned: Owned, chunks: dict[tuple[str, int, int], dict[str, Any]]) -> str | None:
    progress = _progress(owned)
    held = locked.of(owned.agent_id, progress.task_id)
    if held is None:
        return "not_yours"
    step = take(held, SignOfLife(progress.attempt))
    if isinstance(step, Nothing):
        return _refusal(step)
    position = held.output_chars if progress.offset is None else progress.offset
    room = MAX_OUTPUT_CHARS - position
    if room <= 0 or held.output_chunks >= MAX_OUTPUT_CHUNKS:
        held.output_is_cut = True
        return None
    chunk = progress.chunk[:room]
    held.output_is_cut |= len(chunk) < len(progress.chunk)
    held.output_chunks += 1
    held.output_chars = max(held.output_chars, position + len(chunk))
    key = (progress.task_id, step.attempt, position)
    row = {"task_id": key[0], "attempt": key[1], "position": key[2], "chunk": chunk}
    chunks.setdefault(key, row)
    return None


def _end(locked: LockedTasks, owned: Owned) -> str | None:
    result = _ending(owned)
    held = locked.of(owned.agent_id, result.task_id)
    if held is None:
        return "not_yours"
    if result.task_type not in {"", held.facts.task_type}:
        return "wrong_type"
    return _refusal(take(held, Ended(result.attempt, outcome_of(result)), result))


def _refusal(step: Step | Nothing) -> str | None:
    return (step.reason or None) if isinstance(step, Nothing) else None


def _accepted(owned: Owned) -> TaskAccepted:
    assert isinstance(owned.item, TaskAccepted)
    return owned.item


def _progress(owned: Owned) -> TaskProgress:
    assert isinstance(owned.item, TaskProgress)
    return owned.item


def _ending(owned: Owned) -> TaskResult:
    assert isinstance(owned.item, TaskResult)
    return owned.item
