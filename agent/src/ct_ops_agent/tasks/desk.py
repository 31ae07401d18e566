"""The desk for tasks: takes them, one at a time, and sees each to one result.

* An attempt is durable here and its acceptance durable in the outbox before it starts (`attempts`).
* The same attempt asked for again, on whatever stream, is not done again: it runs, or its result is sent again.
  A higher attempt of a task replaces the lower one, which says nothing any more.
* What a crash or a restart has ended is reported as ``interrupted`` by the next process, and not tried again
  from here, whatever it was: the server counts the attempts and decides about the next.
* A task that the server cancels ends with a result that says so.
* A type that this agent does not do is refused as ``unsupported_task`` with exit code -1, and never accepted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ct_ops_agent.errors import AgentError
from ct_ops_agent.tasks import endings
from ct_ops_agent.tasks.attempts import Attempt, Attempts
from ct_ops_agent.tasks.job import BadConfigError, Does, Job, TaskFailedError
from ct_ops_agent.tasks.progress import Progress
from ct_ops_agent.work import Results, Task, TaskAccepted, TaskResult

_log = logging.getLogger(__name__)


@dataclass
class _Running:
    task: Task
    supervisor: asyncio.Task[None] | None = None
    work: asyncio.Future[str] | None = None
    result: TaskResult | None = None
    """Its end, before that is written down."""

    is_cancelled: bool = False


class TaskDesk:
    """Takes tasks."""

    def __init__(self, results: Results, attempts: Attempts, kinds: Mapping[str, Does]) -> None:
        self._results = results
        self._attempts = attempts
        self._kinds = kinds
        self._one_at_a_time = asyncio.Lock()
        self._running: dict[str, _Running] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def report_interrupted(self) -> None:
        """Report what was taken before this process began and has no result."""
        async with self._one_at_a_time:
            for attempt in self._attempts.unfinished:
                await self._end(endings.interrupted(attempt))

    def ask(self, task: Task) -> None:
        """Do a task, unless this attempt of it is known."""
        if running := self._running.get(task.task_id):
            newest, result = running.task.attempt, running.result
        elif known := self._attempts.of(task.task_id):
            newest, result = known.attempt, known.result
        else:
            newest, result = -1, None
        if task.attempt > newest:
            if running and running.supervisor:
                running.supervisor.cancel()
            self._start(task)
        elif task.attempt == newest and result is not None:
            self._watch(asyncio.create_task(self._put(result)))

    def cancel(self, task_ids: Iterable[str]) -> None:
        """End these tasks, those that run here."""
        for task_id in task_ids:
            if running := self._running.get(task_id):
                running.is_cancelled = True
                if running.work:
                    running.work.cancel()

    async def stop(self) -> None:
        """End what runs, without a result: the next process reports it."""
        ending = list(self._under_way)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def _start(self, task: Task) -> None:
        running = self._running[task.task_id] = _Running(task)
        running.supervisor = asyncio.create_task(self._supervise(running), name=f"task {task.task_id}")
        self._watch(running.supervisor)

    def _watch(self, task: asyncio.Task[None]) -> None:
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _supervise(self, running: _Running) -> None:
        try:
            async with self._one_at_a_time:
                await self._see_through(running)
        except AgentError as error:
            _log.warning("task %s is not taken: %s", running.task.task_id, error)
            await self._put(endings.not_taken(running.task, str(error)))
        finally:
            if self._running.get(running.task.task_id) is running:
                del self._running[running.task.task_id]

    async def _see_through(self, running: _Running) -> None:
        task = running.task
        does = self._kinds.get(task.task_type)
        if does is None:
            await self._end(endings.unsupported(task, self._kinds))
            return
        # Before it starts: a crash from here on leaves an attempt that is known, and never begins it twice.
        await asyncio.to_thread(self._attempts.record, Attempt(task.task_id, task.task_type, task.attempt))
        await self._results.put(TaskAccepted(task.task_id, task.attempt))
        progress = Progress(self._results, task)
        try:
            result = await self._outcome(running, does, progress)
            await progress.close()
        finally:
            progress.abandon()
        running.result = result
        await self._end(result)

    async def _outcome(self, running: _Running, does: Does, progress: Progress) -> TaskResult:
        task = running.task
        if running.is_cancelled:
            return endings.cancelled(task)
        running.work = asyncio.ensure_future(does(Job(task, progress.say)))
        try:
            return endings.well(task, await running.work)
        except asyncio.CancelledError:
            if not running.is_cancelled:
                raise
            return endings.cancelled(task)
        except BadConfigError as error:
            return endings.bad_config(task, str(error))
        except (TaskFailedError, AgentError) as error:
            return endings.failed(task, str(error))
        except Exception as error:  # noqa: BLE001  whatever it was, the task has to end in a result
            _log.exception("task %s failed", task.task_id)
            return endings.failed(task, f"a defect of the agent: {type(error).__name__}: {error}")
        finally:
            running.work.cancel()

    async def _end(self, result: TaskResult) -> None:
        await self._put(result)
        ended = Attempt(result.task_id, result.task_type, result.attempt, result)
        try:
            # After the result is kept: a crash in between makes a second result, and the first one counts.
            await asyncio.to_thread(self._attempts.record, ended)
        except AgentError as error:
            _log.warning("the end of task %s is not written down: %s", result.task_id, error)

    async def _put(self, result: TaskResult) -> None:
        try:
            await self._results.put(result)
        except AgentError as error:
            _log.warning("the result of task %s is lost: %s", result.task_id, error)
