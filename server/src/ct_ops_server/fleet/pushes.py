"""Which task an agent's stream is pushed now. Pure.

One at a time: the oldest, and none while the agent holds a lease on another. An attempt that was pushed
to an earlier stream and never accepted is pushed again to an agent that counts attempts, which makes
nothing of it twice; an existing agent would, so its lease must run out first (rule 21).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.tasks import ATTEMPTS, LEASED, Pushed, PushedAgain, TaskFacts, TaskState


@dataclass(frozen=True, slots=True)
class OpenTask:
    """An open task as a stream's push looks at it."""

    id: str
    facts: TaskFacts
    sent_generation: int
    """The stream it was pushed to last; 0: none."""


@dataclass(frozen=True, slots=True)
class Push:
    """One task, and what its push is to the table."""

    task_id: str
    event: Pushed | PushedAgain


def next_push(stream: LiveStream, oldest_first: Sequence[OpenTask]) -> Push | None:
    """Return what to push to a current stream of the agent that these open tasks are for."""
    leased = [task for task in oldest_first if task.facts.state in LEASED]
    for task in leased:
        if task.facts.state is TaskState.SENT and _is_new_to(stream, task):
            return Push(task.id, PushedAgain())
    if leased:
        return None
    for task in oldest_first:
        if task.facts.state is TaskState.WAITING and not task.facts.is_overdue:
            return Push(task.id, Pushed())
    return None


def to_cancel(open_tasks: Sequence[OpenTask]) -> tuple[str, ...]:
    """Return the tasks that their agent shall stop."""
    return tuple(task.id for task in open_tasks if task.facts.state is TaskState.CANCELLING)


def _is_new_to(stream: LiveStream, task: OpenTask) -> bool:
    return ATTEMPTS in stream.features and task.sent_generation != stream.generation
