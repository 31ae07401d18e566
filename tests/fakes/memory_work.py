"""Queries, tasks and inventories in memory: the same contract suite as the real ones.

Nothing here awaits, so every method is atomic by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.items import Owned, QueryResult, TaskAccepted, TaskProgress, TaskResult
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.orders import (
    MOST_OPEN_QUERIES,
    MOST_OPEN_TASKS,
    NewQuery,
    NewTask,
    PackageRecord,
    QueryRecord,
    ScannedPackage,
    ScanStored,
    TaskOutput,
    TaskRecord,
)
from ct_ops_server.fleet.pushes import OpenTask, next_push, to_cancel
from ct_ops_server.fleet.tasks import (
    LEASE,
    MAX_OUTPUT_CHARS,
    MAX_OUTPUT_CHUNKS,
    OPEN,
    CancelAsked,
    Ended,
    Event,
    Nothing,
    Outcome,
    Pushed,
    SignOfLife,
    Step,
    TaskFacts,
    TaskState,
    TimePassed,
    after,
)
from ct_ops_server.fleet.work import AskedQuery, AskedTask
from ct_ops_server.fleet.work_ports import DueTasks, ScanRefusedError, TooManyOpenError
from fakes.memory_store import MemoryStore

_AGO = timedelta(seconds=1)


@dataclass
class _Task:
    """One task."""

    record: TaskRecord
    lease_until: datetime | None = None
    due_at: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    sent_generation: int = 0
    result_attempt: int = 0
    output_chunks: int = 0
    output: dict[tuple[int, int], str] = field(default_factory=dict)


class MemoryWork:
    """Everything in dictionaries, beside a store that knows the agents."""

    def __init__(self, agents: MemoryStore, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._agents = agents
        self._now = now
        self._queries: dict[str, QueryRecord] = {}
        self._tasks: dict[str, _Task] = {}
        self._packages: dict[tuple[str, ...], PackageRecord] = {}

    # QueryStore

    async def ask(self, query: NewQuery) -> None:
        now = self._now()
        mine = [each for each in self._queries.values() if each.agent_id == query.agent_id]
        if sum(each.answered_at is None and each.expires_at > now for each in mine) >= MOST_OPEN_QUERIES:
            raise TooManyOpenError
        self._queries[query.id] = QueryRecord(
            id=query.id,
            agent_id=query.agent_id,
            query_type=query.query_type,
            created_at=now,
            created_by=query.actor,
            expires_at=now + query.lifetime,
            is_overdue=False,
        )

    async def find_query(self, query_id: str) -> QueryRecord | None:
        found = self._queries.get(query_id)
        if found is None or not self._agents.knows(found.agent_id):
            return None
        return replace(found, is_overdue=found.expires_at <= self._now())

    async def due_queries(self, live: Sequence[LiveStream]) -> Mapping[LiveStream, tuple[AskedQuery, ...]]:
        now = self._now()
        due = {
            stream: tuple(
                AskedQuery(each.id, each.query_type, now - each.created_at)
                for each in self._queries.values()
                if each.agent_id == stream.agent_id and each.answered_at is None and each.expires_at > now
            )
            for stream in self._current(live)
        }
        return {stream: queries for stream, queries in due.items() if queries}

    # TaskStore

    async def give(self, task: NewTask) -> None:
        now = self._now()
        is_open = (each.record.state.is_open for each in self._of(task.agent_id))
        if sum(is_open) >= MOST_OPEN_TASKS:
            raise TooManyOpenError
        (agent,) = await self._agents.find_agents(task.agent_id)
        record = TaskRecord(
            id=task.id,
            agent_id=task.agent_id,
            hostname=agent.hostname,
            task_type=task.task_type,
            config_json=task.config_json,
            state=TaskState.WAITING,
            attempt=0,
            created_at=now,
            created_by=task.actor,
            expires_at=now + task.lifetime,
        )
        self._tasks[task.id] = _Task(record, due_at=now)

    async def find_tasks(self, selector: str) -> Sequence[TaskRecord]:
        known = [task.record for task in self._tasks.values() if self._agents.knows(task.record.agent_id)]
        exact = [record for record in known if record.id == selector]
        begun = [record for record in known if selector and record.id.startswith(selector)]
        return exact or sorted(begun, key=lambda record: record.id)

    async def list_tasks(self, *, agent_id: str | None, limit: int) -> Sequence[TaskRecord]:
        records = [task.record for task in self._tasks.values() if agent_id in {None, task.record.agent_id}]
        return sorted(records, key=lambda record: (-record.created_at.timestamp(), record.id))[:limit]

    async def output(self, task_id: str, *, start: int) -> TaskOutput:
        task = self._tasks[task_id]
        attempt = task.record.attempt
        text, starts_at = "", start
        for (of, position), chunk in sorted(task.output.items()):
            if of != attempt or position + len(chunk) <= start:
                continue
            if not text:
                starts_at = max(start, position)
            if position > starts_at + len(text):
                break
            text += chunk[starts_at + len(text) - position :]
        return TaskOutput(attempt, text, starts_at)

    async def cancel_task(self, task_id: str, *, actor: str) -> TaskState | None:
        task = self._tasks.get(task_id)
        if task is None:
            return None
        found = task.record.state
        if isinstance(self._take(task, CancelAsked()), Step):
            task.record = replace(task.record, cancelled_by=actor)
        return found

    async def due_tasks(self, live: Sequence[LiveStream]) -> DueTasks:
        to_push: dict[LiveStream, AskedTask] = {}
        cancels: dict[LiveStream, tuple[str, ...]] = {}
        for stream in self._current(live):
            open_tasks = [
                OpenTask(task.record.id, self._facts(task), task.sent_generation)
                for task in sorted(
                    self._of(stream.agent_id), key=lambda task: (task.record.created_at, task.record.id)
                )
                if task.record.state.is_open
            ]
            if ids := to_cancel(open_tasks):
                cancels[stream] = ids
            if (push := next_push(stream, open_tasks)) is not None:
                to_push[stream] = self._push(self._tasks[push.task_id], stream, push.event)
        return DueTasks(to_push, cancels)

    async def sweep_tasks(self) -> Mapping[TaskState, int]:
        moved = [task for task in self._tasks.values() if isinstance(self._take(task, TimePassed()), Step)]
        return Counter(task.record.state for task in moved)

    async def count_tasks(self) -> Mapping[TaskState, int]:
        counted = Counter(task.record.state for task in self._tasks.values())
        return {state: counted[state] for state in sorted(OPEN)}

    # InventoryStore

    async def begin_scan(self, agent_id: str, task_id: str, attempt: int) -> None:
        status = await self._agents.agent_status(agent_id)
        if status is not AgentStatus.ACTIVE:
            raise ScanRefusedError("revoked" if status is AgentStatus.REVOKED else "scan_not_yours")
        task = self._owned(agent_id, task_id)
        if task is None or task.record.task_type != "software_inventory":
            raise ScanRefusedError("scan_not_yours")
        if isinstance(self._take(task, SignOfLife(attempt)), Nothing):
            raise ScanRefusedError("scan_not_wanted")

    async def store_scan(
        self, agent_id: str, task_id: str, attempt: int, packages: Sequence[ScannedPackage]
    ) -> ScanStored:
        await self.begin_scan(agent_id, task_id, attempt)
        now, new, seen = self._now(), 0, set[tuple[str, ...]]()
        for package in packages:
            key = (agent_id, package.source, package.name, package.version, package.architecture)
            before = None if key in seen else self._packages.get(key)
            seen.add(key)
            new += key not in self._packages
            self._packages[key] = _seen(package, before or self._packages.get(key), now)
        removed = 0
        for known, record in self._packages.items():
            if known[0] == agent_id and known not in seen and record.removed_at is None:
                self._packages[known] = replace(record, removed_at=now)
                removed += 1
        return ScanStored(len(packages), new, removed)

    async def packages(self, agent_id: str, *, name: str | None, removed: bool) -> Sequence[PackageRecord]:
        found = [
            record
            for key, record in self._packages.items()
            if key[0] == agent_id
            and name in {None, record.package.name}
            and removed == (record.removed_at is not None)
        ]
        return sorted(found, key=lambda each: (each.package.name, each.first_seen_at, each.package.version))

    # Items

    async def deliver(self, owned: Sequence[Owned]) -> Sequence[str | None]:
        """Store items, as the writers of ``store`` do: acceptances, then what was said, then results."""
        outcomes: list[str | None] = ["unsupported"] * len(owned)
        for kind in (QueryResult, TaskAccepted, TaskProgress, TaskResult):
            for place, each in enumerate(owned):
                if isinstance(each.item, kind):
                    outcomes[place] = self._deliver(each)
        return outcomes

    def let_lease_end(self, task_id: str) -> None:
        """Have the lease be over, for tests."""
        self._tasks[task_id].lease_until = self._now() - _AGO

    def let_time_end(self, task_id: str) -> None:
        """Have the time to be begun be over, for tests."""
        task = self._tasks[task_id]
        task.record = replace(task.record, expires_at=self._now() - _AGO)

    def let_query_end(self, query_id: str) -> None:
        """Have a query's time be over, for tests."""
        self._queries[query_id] = replace(self._queries[query_id], expires_at=self._now() - _AGO)

    def _deliver(self, owned: Owned) -> str | None:
        item = owned.item
        if isinstance(item, QueryResult):
            return self._answer(owned.agent_id, item)
        assert isinstance(item, TaskAccepted | TaskProgress | TaskResult)
        task = self._owned(owned.agent_id, item.task_id)
        if task is None:
            return "not_yours"
        match item:
            case TaskAccepted():
                return _reason(self._take(task, SignOfLife(item.attempt)))
            case TaskProgress():
                return self._say(task, item)
            case TaskResult():
                if item.task_type not in {"", task.record.task_type}:
                    return "wrong_type"
                return _reason(self._take(task, Ended(item.attempt, _outcome(item)), item))

    def _answer(self, agent_id: str, item: QueryResult) -> str | None:
        query = self._queries.get(item.query_id)
        if query is None or query.agent_id != agent_id:
            return "not_yours"
        if query.query_type != item.query_type:
            return "wrong_type"
        if query.answered_at is None:
            self._queries[query.id] = replace(
                query, answered_at=self._now(), error=item.error, ports=item.ports, services=item.services
            )
        return None

    def _say(self, task: _Task, item: TaskProgress) -> str | None:
        step = self._take(task, SignOfLife(item.attempt))
        if isinstance(step, Nothing):
            return _reason(step)
        position = task.record.output_chars if item.offset is None else item.offset
        chunk = item.chunk[: max(MAX_OUTPUT_CHARS - position, 0)]
        if not chunk or task.output_chunks >= MAX_OUTPUT_CHUNKS:
            task.record = replace(task.record, output_is_cut=True)
            return None
        task.output_chunks += 1
        task.output.setdefault((step.attempt, position), chunk)
        task.record = replace(
            task.record,
            output_chars=max(task.record.output_chars, position + len(chunk)),
            output_is_cut=task.record.output_is_cut or len(chunk) < len(item.chunk),
        )
        return None

    def _take(self, task: _Task, event: Event, result: TaskResult | None = None) -> Step | Nothing:
        step, now = after(self._facts(task), event), self._now()
        if isinstance(step, Nothing):
            return step
        record = replace(task.record, state=step.to, attempt=step.attempt)
        if step.to is TaskState.WAITING:
            task.due_at = now
        if step.leases:
            task.lease_until = now + LEASE
        if isinstance(event, SignOfLife) or (step.keeps_result and result is not None):
            record = replace(record, accepted_at=record.accepted_at or now)
        if step.keeps_result and result is not None:
            task.result_attempt = result.attempt or step.attempt
            record = replace(
                record,
                exit_code=result.exit_code,
                result_json=result.result_json,
                error=result.error,
                refused=result.refused,
            )
        task.record = replace(record, ended_at=None if step.to.is_open else record.ended_at or now)
        return step

    def _push(self, task: _Task, stream: LiveStream, event: Event) -> AskedTask:
        self._take(task, event)
        task.sent_generation = stream.generation
        age = None
        if isinstance(event, Pushed):
            age = self._now() - task.due_at
            task.output_chunks = 0
            task.record = replace(task.record, output_chars=0, output_is_cut=False, accepted_at=None)
        task.record = replace(task.record, sent_at=self._now())
        record = task.record
        return AskedTask(record.id, record.task_type, record.config_json, record.attempt, age)

    def _facts(self, task: _Task) -> TaskFacts:
        now, record = self._now(), task.record
        return TaskFacts(
            task_type=record.task_type,
            state=record.state,
            attempt=record.attempt,
            is_overdue=record.expires_at <= now,
            lease_is_out=task.lease_until is None or task.lease_until <= now,
            result_attempt=task.result_attempt,
        )

    def _of(self, agent_id: str) -> list[_Task]:
        return [task for task in self._tasks.values() if task.record.agent_id == agent_id]

    def _owned(self, agent_id: str, task_id: str) -> _Task | None:
        task = self._tasks.get(task_id)
        return task if task is not None and task.record.agent_id == agent_id else None

    def _current(self, live: Sequence[LiveStream]) -> list[LiveStream]:
        return [stream for stream in live if self._agents.is_current(stream.agent_id, stream.generation)]


def _seen(package: ScannedPackage, before: PackageRecord | None, now: datetime) -> PackageRecord:
    if before is None:
        return PackageRecord(package, now, now)
    returned_at = before.returned_at if before.removed_at is None else now
    return PackageRecord(package, before.first_seen_at, now, None, returned_at)


def _outcome(result: TaskResult) -> Outcome:
    if result.refused == "interrupted":
        return Outcome.INTERRUPTED
    went_well = result.exit_code == 0 and not result.error and not result.refused
    return Outcome.DONE if went_well else Outcome.FAILED


def _reason(step: Step | Nothing) -> str | None:
    return (step.reason or None) if isinstance(step, Nothing) else None
