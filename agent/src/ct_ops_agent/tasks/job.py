"""What somebody who does a task is given, and how a task that goes wrong is said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from ct_ops_agent.work import Task


class TaskFailedError(Exception):
    """The task was done and did not succeed; ``str()`` is a sentence for operators."""


class BadConfigError(Exception):
    """The task cannot be told this; ``str()`` names the key."""


@dataclass(frozen=True, slots=True)
class Job:
    """A task and where its output goes."""

    task: Task
    say: Callable[[str], None]
    """Adds a line to the task's output. Never waits; called on the event loop."""


Does: TypeAlias = Callable[[Job], Awaitable[str]]
"""Does a task and returns its ``result_json``. May raise the errors above and `AgentError`."""
