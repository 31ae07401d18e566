"""Tasks: pieces of work for one agent, from an operator's wish to the first result. One table, pure.

    waiting ──pushed──► sent ──sign of life──► running ──result──► done | failed
       │                 │ lease out             │ lease out, interrupted
       │                 └──────────┬────────────┘
       │        more attempts: waiting again, else unknown | interrupted
       ├─ its time is over: expired, or unknown when it was ever pushed
       └─ cancelled ◄─ cancelling ◄─ sent, running

Rules kept here (rule 21):

* Nothing runs because the server says so: ``running`` begins with the agent's first sign of life, that is,
  an acceptance, progress, an uploaded chunk or the result itself.
* An agent that was pushed a task holds a *lease* on it, ten minutes from the last sign of life. No other
  attempt is made while it lives: existing agents forget which tasks they saw, while the task runs on.
* Only types that may be done twice are tried again, three times at most, and never after the task's time.
* The first result wins, whichever attempt it is of. What comes later changes nothing, and neither does a
  result for an attempt that was never pushed.
* ``unknown`` is no result: an agent that comes back later may still say what became of it.

Agents of ours name the attempt they speak of. An existing agent says 0: the latest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

LEASE = timedelta(minutes=10)
SHORTEST, USUAL, LONGEST = timedelta(minutes=1), timedelta(hours=1), timedelta(days=30)
"""How long a task may wait for its agent."""
MAX_OUTPUT_CHARS = 256 * 1024
MAX_OUTPUT_CHUNKS = 4_096
"""Of one attempt; what an agent says beyond that is cut off."""
ATTEMPTS = "attempts"
"""The feature of agents that count attempts, and may be pushed the same one twice."""


@dataclass(frozen=True, slots=True)
class TaskType:
    """What the server knows of a type of tasks."""

    may_be_repeated: bool
    """Doing it twice does no harm."""
    max_attempts: int


TYPES: Mapping[str, TaskType] = {
    "software_inventory": TaskType(may_be_repeated=True, max_attempts=3),
}
"""The only ones that can be given: agents execute no other."""


class TaskState(StrEnum):
    """Where a task is."""

    WAITING = "waiting"
    SENT = "sent"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"

    @property
    def is_open(self) -> bool:
        """Something may still be done for it."""
        return self in OPEN


OPEN = frozenset({TaskState.WAITING, TaskState.SENT, TaskState.RUNNING, TaskState.CANCELLING})
LEASED = OPEN - {TaskState.WAITING}
"""An agent has it: it gets no other meanwhile."""
RESULTS = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.INTERRUPTED})


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What the table looks at, read at one moment by the database's clock."""

    task_type: str
    state: TaskState
    attempt: int
    """Attempts pushed so far."""
    is_overdue: bool
    """Its time to be begun is over."""
    lease_is_out: bool
    result_attempt: int = 0
    """The attempt whose result it has; 0: none."""

    @property
    def another_attempt(self) -> bool:
        """Whether it may be pushed once more."""
        known = TYPES.get(self.task_type)
        return (
            known is not None
            and known.may_be_repeated
            and self.attempt < known.max_attempts
            and not self.is_overdue
        )


class Outcome(StrEnum):
    """What a result says."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """The agent was restarted while it ran."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The next attempt goes to the agent's stream."""


@dataclass(frozen=True, slots=True)
class PushedAgain:
    """The same attempt goes to a younger stream of an agent that knows its attempts."""


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """The agent works on an attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A result of an attempt."""

    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The sweep looks at it."""


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """An operator wants it no more."""


Event: TypeAlias = Pushed | PushedAgain | SignOfLife | Ended | TimePassed | CancelAsked


@dataclass(frozen=True, slots=True)
class Step:
    """What an event makes of a task."""

    to: TaskState
    attempt: int
    leases: bool = False
    """The lease begins anew."""
    keeps_result: bool = False
    """The result that came is the task's."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The event changes nothing. ``reason`` says what is wrong with it; empty: it is known already."""

    reason: str = ""


def after(task: TaskFacts, event: Event) -> Step | Nothing:
    """Return what follows: the table."""
    match event:
        case Pushed():
            return _pushed(task)
        case PushedAgain():
            is_sent = task.state is TaskState.SENT
            return Step(TaskState.SENT, task.attempt, leases=True) if is_sent else Nothing("not_due")
        case SignOfLife(attempt):
            return _wrong_attempt(task, attempt) or _lives(task, attempt)
        case Ended(attempt, outcome):
            return _wrong_attempt(task, attempt) or _ended(task, attempt or task.attempt, outcome)
        case TimePassed():
            return _time_passed(task)
        case CancelAsked():
            return _cancel_asked(task)


def _pushed(task: TaskFacts) -> Step | Nothing:
    if task.state is not TaskState.WAITING or task.is_overdue:
        return Nothing("not_due")
    return Step(TaskState.SENT, task.attempt + 1, leases=True)


def _wrong_attempt(task: TaskFacts, attempt: int) -> Nothing | None:
    """Return why nobody can speak of this attempt: it was never pushed."""
    return Nothing("unknown_attempt") if task.attempt == 0 or attempt > task.attempt else None


def _lives(task: TaskFacts, attempt: int) -> Step | Nothing:
    if attempt not in {0, task.attempt}:
        return Nothing("other_attempt")
    match task.state:
        case TaskState.CANCELLING:
            return Step(TaskState.CANCELLING, task.attempt, leases=True)
        case TaskState.WAITING | TaskState.SENT | TaskState.RUNNING | TaskState.UNKNOWN:
            return Step(TaskState.RUNNING, task.attempt, leases=True)
        case _:
            return Nothing("task_ended")


def _ended(task: TaskFacts, attempt: int, outcome: Outcome) -> Step | Nothing:
    if not (task.state.is_open or task.state is TaskState.UNKNOWN):
        return Nothing("" if task.result_attempt == attempt else "task_ended")
    if task.state is TaskState.CANCELLING and outcome is not Outcome.DONE:
        return Step(TaskState.CANCELLED, task.attempt, keeps_result=True)
    if outcome is not Outcome.INTERRUPTED:
        return Step(TaskState(outcome.value), task.attempt, keeps_result=True)
    if attempt != task.attempt:
        return Nothing("other_attempt")
    if task.another_attempt:
        return Step(TaskState.WAITING, task.attempt)
    return Step(TaskState.INTERRUPTED, task.attempt, keeps_result=True)


def _time_passed(task: TaskFacts) -> Step | Nothing:
    match task.state:
        case TaskState.WAITING if task.is_overdue:
            return Step(TaskState.UNKNOWN if task.attempt else TaskState.EXPIRED, task.attempt)
        case TaskState.CANCELLING if task.lease_is_out:
            return Step(TaskState.CANCELLED, task.attempt)
        case TaskState.SENT | TaskState.RUNNING if task.lease_is_out:
            return Step(TaskState.WAITING if task.another_attempt else TaskState.UNKNOWN, task.attempt)
        case _:
            return Nothing("not_due")


def _cancel_asked(task: TaskFacts) -> Step | Nothing:
    match task.state:
        case TaskState.WAITING:
            return Step(TaskState.CANCELLED, task.attempt)
        case TaskState.SENT | TaskState.RUNNING:
            return Step(TaskState.CANCELLING, task.attempt)
        case TaskState.CANCELLING:
            return Nothing()
        case _:
            return Nothing("task_ended")
