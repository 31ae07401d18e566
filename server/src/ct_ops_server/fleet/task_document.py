"""The table of tasks for the documentation, printed by the table itself (``fleet.tasks.after``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ct_ops_server.fleet.tasks import (
    CancelAsked,
    Ended,
    Event,
    Nothing,
    Outcome,
    Pushed,
    SignOfLife,
    TaskFacts,
    TaskState,
    TimePassed,
    after,
)

_MAX_ATTEMPT = 3
_FIRST = TaskFacts("software_inventory", TaskState.WAITING, 1, is_overdue=False, lease_is_out=False)
_LEASE_OUT = replace(_FIRST, lease_is_out=True)
_COLUMNS: Mapping[str, tuple[TaskFacts, Event]] = {
    "pushed": (_FIRST, Pushed()),
    "sign of life": (_FIRST, SignOfLife(1)),
    "result: well": (_FIRST, Ended(1, Outcome.DONE)),
    "result: failed": (_FIRST, Ended(1, Outcome.FAILED)),
    "agent restarted": (_FIRST, Ended(1, Outcome.INTERRUPTED)),
    "the same, third attempt": (
        replace(_FIRST, attempt=_MAX_ATTEMPT),
        Ended(_MAX_ATTEMPT, Outcome.INTERRUPTED),
    ),
    "lease over": (_LEASE_OUT, TimePassed()),
    "the same, third attempt ": (replace(_LEASE_OUT, attempt=_MAX_ATTEMPT), TimePassed()),
    "time to begin over": (replace(_FIRST, attempt=0, is_overdue=True), TimePassed()),
    "cancelled": (_FIRST, CancelAsked()),
}
_MEANINGS = {
    TaskState.WAITING: "for its agent",
    TaskState.SENT: "to its agent, which has not said anything of it yet",
    TaskState.RUNNING: "its agent has accepted it, speaks of it or uploads",
    TaskState.CANCELLING: "its agent shall stop it and has not said that it has",
    TaskState.DONE: "exit code 0 and no error",
    TaskState.FAILED: "another exit code, an error, or a refusal; its text is kept",
    TaskState.CANCELLED: "before it was begun, or stopped",
    TaskState.EXPIRED: "its agent did not connect in time: it was never begun",
    TaskState.INTERRUPTED: "its agent was restarted while it ran, as often as it may be tried",
    TaskState.UNKNOWN: "it was begun, and nobody has heard of it since",
}


def task_states_markdown() -> str:
    """Return what each state means."""
    rows = (f"| `{state.value}` | {meaning} |" for state, meaning in _MEANINGS.items())
    return "\n".join(["| state | |", "|---|---|", *rows])


def task_table_markdown() -> str:
    """Return what each event makes of a task in each state; nothing where it changes nothing."""
    states = [state for state in TaskState if state.is_open or state is TaskState.UNKNOWN]
    heading = " | ".join(name.strip() for name in _COLUMNS)
    rows = (
        f"| `{state.value}` | " + " | ".join(_cell(state, *column) for column in _COLUMNS.values()) + " |"
        for state in states
    )
    return "\n".join([f"| | {heading} |", "|---" * (len(_COLUMNS) + 1) + "|", *rows])


def _cell(state: TaskState, facts: TaskFacts, event: Event) -> str:
    step = after(replace(facts, state=state), event)
    return "" if isinstance(step, Nothing) else step.to.value
