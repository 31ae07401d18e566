"""Queries, tasks and scans that the contract suites store, and the store they store them in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.values import APPLICATION, new_agent
from ct_ops_server.enrolment.ports import EnrolmentStore
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.items import (
    Item,
    Owned,
    QueryResult,
    TaskAccepted,
    TaskProgress,
    TaskResult,
)
from ct_ops_server.fleet.model import AgentStatus, StreamOpened, StreamOpening
from ct_ops_server.fleet.orders import NewQuery, NewTask, ScannedPackage, TaskRecord
from ct_ops_server.fleet.ports import AgentStore, StreamStore
from ct_ops_server.fleet.work import AskedTask
from ct_ops_server.fleet.work_ports import InventoryStore, QueryStore, TaskStore
from ct_ops_server.store.items import ItemWriter, apply_items
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.queries import QueryResultWriter
from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.task_items import TaskAcceptedWriter, TaskProgressWriter, TaskResultWriter
from ct_ops_server.store.work_tables import queries, tasks
from fakes.memory_store import MemoryStore
from fakes.memory_work import MemoryWork

WRITERS: dict[type[Item], ItemWriter] = {
    QueryResult: QueryResultWriter(),
    TaskAccepted: TaskAcceptedWriter(),
    TaskProgress: TaskProgressWriter(),
    TaskResult: TaskResultWriter(),
}
BASH = ScannedPackage("dpkg", "bash", "5.2-1", "amd64", "Debian", 1_700_000_000)
CURL = ScannedPackage("dpkg", "curl", "8.1-1", "amd64", "Debian", 0)
OURS = frozenset({"attempts", "definitions"})


@dataclass(frozen=True)
class WorkUnderTest:
    """Any implementation of the ports, and hands on its clock."""

    queries: QueryStore
    tasks: TaskStore
    inventory: InventoryStore
    agents: AgentStore
    streams: StreamStore
    enrolment: EnrolmentStore
    deliver: Callable[[Sequence[Owned]], Awaitable[Sequence[str | None]]]
    let_lease_end: Callable[[str], Awaitable[None]]
    let_time_end: Callable[[str], Awaitable[None]]
    let_query_end: Callable[[str], Awaitable[None]]

    async def enrol(self, *agent_ids: str) -> None:
        """Admit agents."""
        for agent_id in agent_ids:
            applied = replace(APPLICATION, key_id=f"key-{agent_id}", hostname=f"host-{agent_id}")
            await self.enrolment.admit(
                new_agent(agent_id, status=AgentStatus.ACTIVE, application=applied), leaf=None
            )

    async def stream(self, agent_id: str, features: frozenset[str] = frozenset()) -> LiveStream:
        """Open a stream of an agent."""
        opened = await self.streams.open_stream(StreamOpening(agent_id, f"key-{agent_id}", "worker-1", None))
        assert isinstance(opened, StreamOpened)
        return LiveStream(agent_id, opened.generation, features)

    async def say(self, agent_id: str, *items: Item) -> list[str | None]:
        """Deliver items of one agent together."""
        return list(await self.deliver([Owned(agent_id, item) for item in items]))

    async def push(self, stream: LiveStream) -> AskedTask | None:
        """Return the task that a stream is pushed now."""
        return (await self.tasks.due_tasks([stream])).to_push.get(stream)

    async def task(self, task_id: str = "t1") -> TaskRecord:
        """Return the one task with this id."""
        (found,) = await self.tasks.find_tasks(task_id)
        return found

    async def revoke(self, agent_id: str) -> None:
        """Put an agent out."""
        await self.agents.change_status(
            agent_id,
            allowed_from=frozenset({AgentStatus.ACTIVE}),
            to=AgentStatus.REVOKED,
            actor="ada",
            reason="",
        )


def query(query_id: str = "q1", agent_id: str = "a", query_type: str = "list_ports") -> NewQuery:
    """Return a query."""
    return NewQuery(query_id, agent_id, query_type, "ada")


def task(task_id: str = "t1", agent_id: str = "a", lifetime: timedelta = timedelta(hours=1)) -> NewTask:
    """Return a task."""
    return NewTask(task_id, agent_id, "software_inventory", "{}", "ada", lifetime)


def result(
    task_id: str = "t1", attempt: int = 0, *, exit_code: int = 0, error: str = "", refused: str = ""
) -> TaskResult:
    """Return a result."""
    return TaskResult(task_id, "software_inventory", attempt, exit_code, '{"packages": 2}', error, refused)


@asynccontextmanager
async def work_in_memory() -> AsyncIterator[WorkUnderTest]:
    """Yield the fake."""
    memory = MemoryStore()
    work = MemoryWork(memory)

    def later(change: Callable[[str], None]) -> Callable[[str], Awaitable[None]]:
        async def run(name: str) -> None:
            change(name)

        return run

    yield WorkUnderTest(
        queries=work,
        tasks=work,
        inventory=work,
        agents=memory,
        streams=memory,
        enrolment=memory,
        deliver=work.deliver,
        let_lease_end=later(work.let_lease_end),
        let_time_end=later(work.let_time_end),
        let_query_end=later(work.let_query_end),
    )


@asynccontextmanager
async def work_in_database(url: str) -> AsyncIterator[WorkUnderTest]:
    """Yield the real ones."""
    async with open_store(url) as store:
        yield under_test(store)


def under_test(store: Store) -> WorkUnderTest:
    """Return an open store as the contract suite sees it."""

    async def deliver(owned: Sequence[Owned]) -> Sequence[str | None]:
        return await store.writer.run(lambda connection: apply_items(connection, owned, WRITERS))

    def ended(table: sa.Table, column: str) -> Callable[[str], Awaitable[None]]:
        async def end(name: str) -> None:
            async def write(connection: AsyncConnection) -> None:
                await connection.execute(
                    table.update().where(table.c.id == name).values({column: now_ms() - 1_000})
                )

            await store.writer.run(write)

        return end

    return WorkUnderTest(
        queries=store.queries,
        tasks=store.tasks,
        inventory=store.inventory,
        agents=store.agents,
        streams=store.streams,
        enrolment=store.enrolment,
        deliver=deliver,
        let_lease_end=ended(tasks, "lease_until"),
        let_time_end=ended(tasks, "expires_at"),
        let_query_end=ended(queries, "expires_at"),
    )
