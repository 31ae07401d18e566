"""Items: what agents deliver. Values, storable already (``edge.convert``), without behaviour.

Our agents deliver them in numbered batches, existing agents beside their heartbeats; what is stored is the
same. Each has a *content key*, by which a repeated one is known (clones, a restored data directory, a new
outbox): it is never a counter of the agent's, which goes back in time as well.

==================  =============================
item                content key
==================  =============================
``Sample``          agent, series, time
``CheckResult``     check, time of its start
``QueryResult``     query
``TaskAccepted``    task, attempt
``TaskProgress``    task, attempt, offset
``TaskResult``      task, attempt
``Gap``             SHA-256 of itself, agent
==================  =============================
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a series at one time."""

    series: str
    """Name and labels in canonical form: ``disk.used_bytes{mount="/"}``, labels sorted by name."""
    at_ms: int
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Gap:
    """What an agent had to drop instead of delivering it."""

    type: str
    count: int
    from_ms: int
    to_ms: int
    reason: str


class CheckStatus(StrEnum):
    """How a check went."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"
    """The check itself could not be done."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One run of a check."""

    check_id: str
    status: CheckStatus
    output: str
    duration_ms: int
    ran_at_ms: int


@dataclass(frozen=True, slots=True)
class OpenPort:
    """A listening port."""

    port: int
    protocol: str
    process: str


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service of the host's service manager."""

    name: str
    load_state: str
    active_sub: str


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to a query."""

    query_id: str
    query_type: str
    error: str
    """Empty: it went well."""
    ports: tuple[OpenPort, ...] = ()
    services: tuple[ServiceState, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskAccepted:
    """An agent has taken an attempt of a task."""

    task_id: str
    attempt: int
    """0: an existing agent, which does not count; it means the current attempt."""


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """A piece of a running task's output."""

    task_id: str
    attempt: int
    offset: int | None
    """In characters; None: an existing agent, its chunks are appended as they come."""
    chunk: str


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How an attempt of a task ended."""

    task_id: str
    task_type: str
    attempt: int
    exit_code: int
    result_json: str
    error: str
    refused: str
    """Why the agent did not do it at all; empty: it did."""


@dataclass(frozen=True, slots=True)
class CollectorState:
    """What an agent says of one of its collectors. No item: the latest report counts, and replaces all before."""

    name: str
    interval_ms: int
    problem: str
    """One sentence for operators; empty: it works."""


Result: TypeAlias = CheckResult | QueryResult | TaskAccepted | TaskProgress | TaskResult
Item: TypeAlias = Result | Sample | Gap


KINDS: dict[type[Item], str] = {
    CheckResult: "check_result",
    QueryResult: "query_result",
    TaskAccepted: "task_accepted",
    TaskProgress: "task_progress",
    TaskResult: "task_result",
    Sample: "sample",
    Gap: "gap",
}
"""What operators and metrics call items."""


@dataclass(frozen=True, slots=True)
class Owned:
    """An item of one agent, whose leaf and row were verified."""

    agent_id: str
    item: Item


@dataclass(frozen=True, slots=True)
class ItemRefused:
    """An item that is not stored, now or ever: the agent may forget it."""

    index: int
    """In the sequence it was delivered in."""
    reason: str
    """For machines: ``not_yours``, ``unknown_check``, ``series_limit``, ``malformed`` …"""


NOBODYS_FAULT = frozenset({"removed_check", "task_ended", "other_attempt"})
"""Reasons that say nothing of an agent: the item was right when it was made. They are not held against it."""
