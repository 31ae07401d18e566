"""How an attempt of a task ends, as a result. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ct_ops_agent.tasks.attempts import Attempt
from ct_ops_agent.work import Task, TaskResult

FAILED = 1
NO_CODE = -1
"""What ended without a code of its own."""

UNSUPPORTED = "unsupported_task"
BAD_CONFIG = "bad_config"
INTERRUPTED = "interrupted"
_MAX_ERROR_CHARS = 2_000


def well(task: Task, result_json: str) -> TaskResult:
    """Return that it was done."""
    return TaskResult(task.task_id, task.task_type, task.attempt, 0, result_json)


def failed(task: Task, error: str) -> TaskResult:
    """Return that it was done and did not succeed."""
    return _without_code(task, error, exit_code=FAILED)


def not_taken(task: Task, error: str) -> TaskResult:
    """Return that this host cannot even begin it now."""
    return _without_code(task, f"the task cannot be taken: {error}")


def cancelled(task: Task) -> TaskResult:
    """Return that the server has ended it."""
    return _without_code(task, "cancelled, as the server asked")


def bad_config(task: Task, error: str) -> TaskResult:
    """Return that it cannot be told this."""
    return _without_code(task, error, refused=BAD_CONFIG)


def unsupported(task: Task, known: Iterable[str]) -> TaskResult:
    """Return that this agent does no such task."""
    sentence = (
        f"this agent does not do {task.task_type[:64]!r}, only {', '.join(known)}: it has no right to change "
        "the host, which would need a privileged helper of its own"
    )
    return _without_code(task, sentence, refused=UNSUPPORTED)


def interrupted(attempt: Attempt) -> TaskResult:
    """Return that a process before this one took it and came to no end."""
    task = Task(attempt.task_id, attempt.task_type, "", attempt.attempt)
    sentence = "the agent ended while it did this task, and does not know how far it came"
    return _without_code(task, sentence, refused=INTERRUPTED)


def _without_code(task: Task, error: str, *, exit_code: int = NO_CODE, refused: str = "") -> TaskResult:
    return TaskResult(
        task.task_id,
        task.task_type,
        task.attempt,
        exit_code,
        error=error[:_MAX_ERROR_CHARS],
        refused=refused,
    )
