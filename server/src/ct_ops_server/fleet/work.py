"""Work: what the server asks of an agent. Values only; ``edge.work_messages`` makes messages of them.

Three kinds are asked for: *checks* (the full list, that replaces the one before), *queries* (one-shot
questions) and *tasks* (one at a time). What comes back are ``fleet.items``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class CheckDefinition:
    """A probe that an agent runs on its interval."""

    check_id: str
    check_type: str
    config_json: str
    interval_s: int
    timeout_ms: int = 0
    """0: the agent's own default for its type."""


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """A question for one agent."""

    query_id: str
    query_type: str
    age: timedelta | None = field(default=None, compare=False)
    """How long ago it was asked for, by the database's clock, when it was read."""


@dataclass(frozen=True, slots=True)
class AskedTask:
    """One attempt of a task, for one agent."""

    task_id: str
    task_type: str
    config_json: str
    attempt: int
    age: timedelta | None = field(default=None, compare=False)
    """How long ago the attempt became due."""


@dataclass(frozen=True, slots=True)
class NewLeaf:
    """A leaf to take now; empty: ask for one (an agent of ours, which then may prove a key of its own)."""

    pem: str = ""
    not_after_unix: int = 0
    authority_pem: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What one pushed frame asks for."""

    checks: tuple[CheckDefinition, ...] | None = None
    """The full list. None: nothing is said about checks; the empty list stops them all."""
    queries: tuple[AskedQuery, ...] = ()
    task: AskedTask | None = None
    cancelled_task_ids: tuple[str, ...] = ()
    new_leaf: NewLeaf | None = None

    def __bool__(self) -> bool:
        return self != Work()

    @property
    def ages(self) -> tuple[timedelta, ...]:
        """How long what is in it has waited, where that is known."""
        asked = (*self.queries, *(() if self.task is None else (self.task,)))
        return tuple(each.age for each in asked if each.age is not None)
