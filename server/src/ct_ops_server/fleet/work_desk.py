"""Where operators ask agents questions, give them tasks, and see what came of it.

An agent is named as at ``fleet.agents.AgentDesk``, whose errors come through; a task by its id or a unique
prefix of it. Errors of this desk:

    WorkError
    ├── NoSuchTaskError, NoSuchQueryError
    ├── UnknownTypeError   no agent would know what to do
    ├── NotActiveError     an operator has not let this agent in, or has put it out
    ├── OfflineError       a query needs its agent now
    └── WorkConflictError  it cannot be done as things are
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from ct_ops_server.fleet.agents import AgentDesk
from ct_ops_server.fleet.model import Agent, AgentStatus
from ct_ops_server.fleet.orders import (
    QUERY_LIFETIME,
    QUERY_TYPES,
    NewQuery,
    NewTask,
    PackageRecord,
    QueryRecord,
    TaskOutput,
    TaskRecord,
)
from ct_ops_server.fleet.tasks import LONGEST, SHORTEST, TYPES, USUAL
from ct_ops_server.fleet.work_ports import (
    TOPIC,
    InventoryStore,
    QueryStore,
    TaskStore,
    TooManyOpenError,
)


class WorkError(Exception):
    """A request that cannot be done. ``str()`` is a sentence for the operator."""


class NoSuchTaskError(WorkError):
    """Nothing matches the selector."""

    def __init__(self, selector: str) -> None:
        super().__init__(f"no task has the id, or id prefix, {selector!r}; see: ct-ops-server task list")


class NoSuchQueryError(WorkError):
    """There is no such query (any more)."""

    def __init__(self, query_id: str) -> None:
        super().__init__(f"there is no query {query_id!r}: answers are kept for a day")


class UnknownTypeError(WorkError):
    """No agent would know what to do."""


_NOT_ACTIVE = {
    AgentStatus.PENDING: "approve it first",
    AgentStatus.QUARANTINED: "decide about its copies first (ct-ops-server clones list)",
    AgentStatus.REVOKED: "it will not be served again",
}


class NotActiveError(WorkError):
    """The agent's status does not allow it."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(f"{agent.hostname} ({agent.id}) is {agent.status}: {_NOT_ACTIVE[agent.status]}")


class OfflineError(WorkError):
    """The agent is needed now."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(
            f"{agent.hostname} ({agent.id}) is offline, so nobody can answer; a task would wait for it"
        )


class WorkConflictError(WorkError):
    """It cannot be done as things are."""


class WorkDesk:
    """Questions and tasks for agents."""

    def __init__(
        self,
        agents: AgentDesk,
        queries: QueryStore,
        tasks: TaskStore,
        inventory: InventoryStore,
        *,
        hint: Callable[[str], None],
        new_id: Callable[[], str],
    ) -> None:
        """Prepare the desk; ``hint`` tells the push bus of this process that something is due."""
        self._agents = agents
        self._queries = queries
        self._tasks = tasks
        self._inventory = inventory
        self._hint = hint
        self._new_id = new_id

    async def ask(
        self, selector: str, query_type: str, *, actor: str, lifetime: timedelta = QUERY_LIFETIME
    ) -> QueryRecord:
        """Ask an agent that is online; the answer comes later.

        Raises:
            AgentError, WorkError: it cannot be asked.
        """
        if query_type not in QUERY_TYPES:
            raise UnknownTypeError(f"agents answer {' and '.join(QUERY_TYPES)}, not {query_type!r}")
        agent = await self._active(selector)
        if not agent.online:
            raise OfflineError(agent)
        query = NewQuery(self._new_id(), agent.id, query_type, actor, lifetime)
        try:
            await self._queries.ask(query)
        except TooManyOpenError:
            raise WorkConflictError(
                f"{agent.hostname} has too many questions without an answer already; wait two minutes"
            ) from None
        self._hint(TOPIC)
        return await self.query(query.id)

    async def query(self, query_id: str) -> QueryRecord:
        """Return a query, with its answer when it has come.

        Raises:
            NoSuchQueryError: there is none.
        """
        if (found := await self._queries.find_query(query_id)) is None:
            raise NoSuchQueryError(query_id)
        return found

    async def give(
        self, selector: str, task_type: str, *, actor: str, lifetime: timedelta = USUAL
    ) -> TaskRecord:
        """Give an agent a task; it waits for an agent that is away, for as long as ``lifetime``.

        Raises:
            AgentError, WorkError: it cannot be given.
        """
        if task_type not in TYPES:
            raise UnknownTypeError(f"agents do {', '.join(TYPES)}, not {task_type!r}")
        if not SHORTEST <= lifetime <= LONGEST:
            raise WorkConflictError("a task may wait for its agent between one minute and 30 days")
        agent = await self._active(selector)
        task = NewTask(self._new_id(), agent.id, task_type, "{}", actor, lifetime)
        try:
            await self._tasks.give(task)
        except TooManyOpenError:
            raise WorkConflictError(
                f"{agent.hostname} has too many open tasks; cancel some: ct-ops-server task list {agent.id}"
            ) from None
        self._hint(TOPIC)
        return await self.task(task.id)

    async def task(self, selector: str) -> TaskRecord:
        """Return the one task that is meant.

        Raises:
            NoSuchTaskError, WorkConflictError: it is not exactly one.
        """
        found = await self._tasks.find_tasks(selector)
        if not found:
            raise NoSuchTaskError(selector)
        if len(found) > 1:
            raise WorkConflictError(
                f"{selector!r} names more than one task: {', '.join(each.id for each in found)}"
            )
        return found[0]

    async def output(self, task_id: str, *, start: int) -> TaskOutput:
        """Return what a task has said from ``start`` on."""
        return await self._tasks.output(task_id, start=start)

    async def tasks(self, selector: str | None, *, limit: int) -> Sequence[TaskRecord]:
        """Return the latest tasks, of one agent or of all.

        Raises:
            AgentError: it is not exactly one agent.
        """
        agent_id = None if selector is None else (await self._agents.find(selector)).id
        return await self._tasks.list_tasks(agent_id=agent_id, limit=limit)

    async def cancel(self, selector: str, *, actor: str) -> TaskRecord:
        """Cancel a task; one that runs is ``cancelling`` until its agent has stopped it.

        Raises:
            WorkError: it is over, or not exactly one.
        """
        task = await self.task(selector)
        found = await self._tasks.cancel_task(task.id, actor=actor)
        if found is None:
            raise NoSuchTaskError(selector)
        if not found.is_open:
            raise WorkConflictError(f"task {task.id} cannot be cancelled: it is {found}")
        self._hint(TOPIC)
        return await self.task(task.id)

    async def packages(
        self, selector: str, *, name: str | None, removed: bool
    ) -> tuple[Agent, Sequence[PackageRecord]]:
        """Return what is installed on a host, or what is not any more.

        Raises:
            AgentError: it is not exactly one.
        """
        agent = await self._agents.find(selector)
        return agent, await self._inventory.packages(agent.id, name=name, removed=removed)

    async def _active(self, selector: str) -> Agent:
        agent = await self._agents.find(selector)
        if agent.status is not AgentStatus.ACTIVE:
            raise NotActiveError(agent)
        return agent
