"""What queries, tasks and the software inventory need from a store, as protocols.

``store.queries``, ``store.tasks`` and ``store.inventory`` implement them on SQLite and PostgreSQL,
``tests/fakes`` in memory; all pass the same contract suite. Errors: see ``fleet.ports``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.orders import (
    NewQuery,
    NewTask,
    PackageRecord,
    QueryRecord,
    ScannedPackage,
    ScanStored,
    TaskOutput,
    TaskRecord,
)
from ct_ops_server.fleet.tasks import TaskState
from ct_ops_server.fleet.work import AskedQuery, AskedTask

TOPIC = "work"
"""What the bus calls new queries and tasks, and cancellations."""


class TooManyOpenError(Exception):
    """The agent has as many open queries or tasks as it may have."""


class ScanRefusedError(Exception):
    """An upload may not be stored. ``reason`` is a key of ``edge.refusals``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class DueTasks:
    """What there is to tell live streams about tasks."""

    to_push: Mapping[LiveStream, AskedTask]
    """Each was counted as an attempt, and its lease has begun."""
    to_cancel: Mapping[LiveStream, tuple[str, ...]]


class QueryStore(Protocol):
    """Queries and their answers."""

    async def ask(self, query: NewQuery) -> None:
        """Keep a query; every process is hinted at ``TOPIC`` with the commit.

        Raises:
            TooManyOpenError: too many of this agent's are open.
        """

    async def find_query(self, query_id: str) -> QueryRecord | None:
        """Return it with its answer, if there is one."""

    async def due_queries(self, streams: Sequence[LiveStream]) -> Mapping[LiveStream, tuple[AskedQuery, ...]]:
        """Return the queries without an answer whose time is not over, of current streams only."""


class TaskStore(Protocol):
    """Tasks, by the table ``fleet.tasks``."""

    async def give(self, task: NewTask) -> None:
        """Keep a task; every process is hinted at ``TOPIC`` with the commit.

        Raises:
            TooManyOpenError: too many of this agent's are open.
        """

    async def find_tasks(self, selector: str) -> Sequence[TaskRecord]:
        """Return those whose id is ``selector``, else whose id begins with it; at most a few."""

    async def list_tasks(self, *, agent_id: str | None, limit: int) -> Sequence[TaskRecord]:
        """Return the latest, youngest first."""

    async def output(self, task_id: str, *, start: int) -> TaskOutput:
        """Return what the latest attempt has said from ``start`` on, as far as it has no hole."""

    async def cancel_task(self, task_id: str, *, actor: str) -> TaskState | None:
        """Cancel it when the table allows that; return the state found, None without such a task."""

    async def due_tasks(self, streams: Sequence[LiveStream]) -> DueTasks:
        """Claim what these streams are to be pushed, at most one each, none for an agent that has one."""

    async def sweep_tasks(self) -> Mapping[TaskState, int]:
        """Apply the passing of time; return how many tasks came to which state."""

    async def count_tasks(self) -> Mapping[TaskState, int]:
        """Return how many tasks there are in each open state."""


class InventoryStore(Protocol):
    """What is installed on hosts."""

    async def begin_scan(self, agent_id: str, task_id: str, attempt: int) -> None:
        """Take a first chunk, or a later one, as the task's sign of life.

        Raises:
            ScanRefusedError: it is not this agent's task, or the task takes no upload.
        """

    async def store_scan(
        self, agent_id: str, task_id: str, attempt: int, packages: Sequence[ScannedPackage]
    ) -> ScanStored:
        """Store a complete scan: what is new, what is still there, what is gone; all of it or nothing.

        Raises:
            ScanRefusedError: as ``begin_scan``, by the rows as they are now.
        """

    async def packages(self, agent_id: str, *, name: str | None, removed: bool) -> Sequence[PackageRecord]:
        """Return a host's packages by name; ``removed``: those that are gone instead."""
