"""Queries and tasks for dispatch (``fleet.dispatch.Provider``), and the sweep that ends what is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.fleet.tasks import TaskState
from ct_ops_server.fleet.work import Work
from ct_ops_server.fleet.work_ports import TOPIC, QueryStore, TaskStore

SWEEP_EVERY = timedelta(seconds=10)

_log = logging.getLogger("ct_ops_server.tasks")


class WorkProvider:
    """What is due of queries and tasks."""

    topic = TOPIC

    def __init__(self, queries: QueryStore, tasks: TaskStore) -> None:
        self._queries = queries
        self._tasks = tasks

    async def due(self, streams: Sequence[LiveStream]) -> Mapping[LiveStream, Work]:
        """Return open queries, the next task of who has none, and tasks to stop."""
        queries = await self._queries.due_queries(streams)
        tasks = await self._tasks.due_tasks(streams)  # last: what it claims must be handed over
        return {
            stream: Work(
                queries=queries.get(stream, ()),
                task=tasks.to_push.get(stream),
                cancelled_task_ids=tasks.to_cancel.get(stream, ()),
            )
            for stream in {*queries, *tasks.to_push, *tasks.to_cancel}
        }


class TaskSweep:
    """Ends tasks whose time or last lease is over, and lets others be tried again. Any process does it."""

    def __init__(
        self,
        store: TaskStore,
        *,
        hint: Callable[[str], None],
        observe: Callable[[Mapping[TaskState, int]], None],
        every: timedelta = SWEEP_EVERY,
    ) -> None:
        """Prepare a sweep.

        Args:
            store: of the tasks.
            hint: of the bus of this process.
            observe: told how many tasks there are in each open state.
            every: how often.
        """
        self._store = store
        self._hint = hint
        self._observe = observe
        self._every = every

    async def run(self) -> None:
        """Sweep until cancelled. An outage of the store is waited out."""
        while True:
            await self.tick()
            await asyncio.sleep(self._every.total_seconds())

    async def tick(self) -> None:
        """Sweep once."""
        try:
            moved = await self._store.sweep_tasks()
            self._observe(await self._store.count_tasks())
        except StoreError as error:
            _log.warning("tasks are not swept for now: %s", error)
            return
        for state, count in moved.items():
            _log.info("%d tasks are %s: their time or their lease is over", count, state)
        if TaskState.WAITING in moved:
            self._hint(TOPIC)
