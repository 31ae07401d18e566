"""Tasks: taken once, seen to one result, also over restarts."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ct_ops_agent.errors import DataDirectoryError, UnreachableError
from ct_ops_agent.tasks.attempts import FILE, REMEMBERED, Attempt, Attempts
from ct_ops_agent.tasks.desk import TaskDesk
from ct_ops_agent.tasks.job import BadConfigError, Job, TaskFailedError
from ct_ops_agent.tasks.progress import MAX_CHARS
from ct_ops_agent.work import Result, Task, TaskAccepted, TaskProgress, TaskResult
from work_desk import KeptResults, settle, until

TASK = Task("t1", "work", "{}", attempt=1)


@dataclass
class Worker:
    """Does tasks of the type ``work``, as a test tells it."""

    does: Callable[[Job], str] = lambda _job: '{"done":true}'
    jobs: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, job: Job) -> str:
        self.jobs.append(job)
        await self.go_on.wait()
        return self.does(job)


@pytest.fixture
async def results() -> KeptResults:
    return KeptResults()


@pytest.fixture
async def worker() -> Worker:
    return Worker()


@pytest.fixture
async def desk(results: KeptResults, worker: Worker, tmp_path: Path) -> AsyncIterator[TaskDesk]:
    opened = TaskDesk(results, Attempts(tmp_path), {"work": worker})
    yield opened
    await opened.stop()


def ended(results: KeptResults) -> list[TaskResult]:
    return [each for each in results.kept if isinstance(each, TaskResult)]


async def the_end(results: KeptResults, number: int = 1) -> TaskResult:
    await results.wait_for(lambda: len(ended(results)) >= number)
    return ended(results)[-1]


async def test_a_task_is_accepted_before_it_starts_and_ends_in_a_result(
    desk: TaskDesk, results: KeptResults, worker: Worker
) -> None:
    """Acceptance, output with its offsets in characters, result: all of the attempt."""

    def work(job: Job) -> str:
        assert [TaskAccepted("t1", 1)] == results.kept
        job.say("Größe")
        job.say("done")
        return '{"n":1}'

    worker.does = work
    desk.ask(TASK)
    await the_end(results)

    expected: list[Result] = [
        TaskAccepted("t1", 1),
        TaskProgress("t1", 1, 0, "Größe\n"),
        TaskProgress("t1", 1, 6, "done\n"),
        TaskResult("t1", "work", 1, 0, '{"n":1}'),
    ]
    assert expected == results.kept


async def test_it_is_written_down_before_it_starts(
    desk: TaskDesk, results: KeptResults, worker: Worker, tmp_path: Path
) -> None:
    """In a file that others cannot read, without its configuration."""
    written: list[str] = []

    def work(_job: Job) -> str:
        written.append((tmp_path / FILE).read_text())
        return ""

    worker.does = work
    desk.ask(Task("t1", "work", '{"secret":"hunter2"}', 1))
    await the_end(results)

    assert 0o600 == stat.S_IMODE((tmp_path / FILE).stat().st_mode)
    assert [{"task_id": "t1", "task_type": "work", "attempt": 1, "result": None}] == json.loads(written[0])
    assert "hunter2" not in written[0]


async def test_an_attempt_that_runs_is_not_started_again(
    desk: TaskDesk, results: KeptResults, worker: Worker
) -> None:
    """A server pushes it again on every new stream until it knows that it was accepted."""
    worker.go_on.clear()
    for _ in range(3):
        desk.ask(TASK)
        await results.several(1)
    worker.go_on.set()
    await the_end(results)
    await settle()

    assert 1 == len(worker.jobs)
    assert 1 == len(ended(results))


async def test_an_attempt_that_has_ended_is_answered_with_its_result(
    desk: TaskDesk, results: KeptResults, worker: Worker
) -> None:
    """An existing server that asks again has lost it with a stream."""
    desk.ask(TASK)
    first = await the_end(results)
    await settle_files()
    desk.ask(TASK)
    second = await the_end(results, 2)

    assert first == second
    assert 1 == len(worker.jobs)


async def test_a_new_attempt_of_a_task_that_has_ended_is_done(
    desk: TaskDesk, results: KeptResults, worker: Worker
) -> None:
    """The server counts; an older one that comes late is nothing any more."""
    desk.ask(TASK)
    await the_end(results)
    await settle_files()
    desk.ask(Task("t1", "work", "{}", attempt=2))
    await the_end(results, 2)
    await settle_files()
    desk.ask(TASK)
    await settle()

    assert [1, 2] == [each.attempt for each in ended(results)]
    assert 2 == len(worker.jobs)


async def test_a_new_attempt_replaces_the_one_that_runs(
    desk: TaskDesk, results: KeptResults, worker: Worker
) -> None:
    """The server has given up on the first, so it says nothing any more."""
    worker.go_on.clear()
    desk.ask(TASK)
    await results.several(1)
    desk.ask(Task("t1", "work", "{}", attempt=2))
    await results.several(2)
    worker.go_on.set()
    await the_end(results)

    assert [
        TaskAccepted("t1", 1),
        TaskAccepted("t1", 2),
        TaskResult("t1", "work", 2, 0, '{"done":true}'),
    ] == (results.kept)


async def test_tasks_are_done_one_at_a_time(desk: TaskDesk, results: KeptResults, worker: Worker) -> None:
    """The second is accepted when it begins, not before."""
    worker.go_on.clear()
    desk.ask(TASK)
    desk.ask(Task("t2", "work", "{}", attempt=1))
    await results.several(1)
    await settle()
    assert ["t1"] == [job.task.task_id for job in worker.jobs]

    worker.go_on.set()
    await the_end(results, 2)

    assert ["t1", "t2"] == [job.task.task_id for job in worker.jobs]


async def test_what_a_crash_ended_is_reported_as_interrupted(
    results: KeptResults, worker: Worker, tmp_path: Path
) -> None:
    """By the next process, once, and never begun again from here. In the existing system it hung for an hour."""
    Attempts(tmp_path).record(Attempt("t1", "work", 2))
    for _ in range(2):
        desk = TaskDesk(results, Attempts(tmp_path), {"work": worker})
        await desk.report_interrupted()
        desk.ask(Task("t1", "work", "{}", attempt=1))
        await settle()
        await desk.stop()

    (result,) = ended(results)
    assert ("t1", 2, -1, "interrupted") == (result.task_id, result.attempt, result.exit_code, result.refused)
    assert "the agent ended while it did this task" in result.error
    assert [] == worker.jobs


async def test_a_stop_leaves_the_task_for_the_next_process_to_report(
    results: KeptResults, worker: Worker, tmp_path: Path
) -> None:
    """Like a crash: a half of the work is no result."""
    desk = TaskDesk(results, Attempts(tmp_path), {"work": worker})
    worker.go_on.clear()
    desk.ask(TASK)
    await results.several(1)
    await desk.stop()
    assert [TaskAccepted("t1", 1)] == results.kept

    after = TaskDesk(results, Attempts(tmp_path), {"work": worker})
    await after.report_interrupted()

    assert "interrupted" == ended(results)[0].refused


async def test_the_result_of_before_a_restart_is_remembered(
    desk: TaskDesk, results: KeptResults, worker: Worker, tmp_path: Path
) -> None:
    """The same attempt, pushed to the new process, is not done a second time."""
    desk.ask(TASK)
    first = await the_end(results)
    await settle_files()

    after = TaskDesk(results, Attempts(tmp_path), {"work": worker})
    await after.report_interrupted()
    after.ask(TASK)

    assert first == await the_end(results, 2)
    assert 1 == len(worker.jobs)


@pytest.mark.parametrize(
    "task_type", ["custom_script", "patch", "service", "agent_uninstall", "", "💥" * 500]
)
async def test_other_tasks_are_refused_with_a_typed_reason(
    task_type: str, desk: TaskDesk, results: KeptResults
) -> None:
    """Exit code -1 as existing agents answer, and what it would take. Nothing was accepted."""
    desk.ask(Task("t1", task_type, '{"script":"rm -rf /"}', 1))
    result = await the_end(results)

    assert (-1, "unsupported_task", "") == (result.exit_code, result.refused, result.result_json)
    assert "privileged helper" in result.error
    assert [result] == results.kept


@pytest.mark.parametrize(
    ("error", "exit_code", "refused", "said"),
    [
        (TaskFailedError("no package manager"), 1, "", "no package manager"),
        (UnreachableError("the server is gone"), 1, "", "the server is gone"),
        (BadConfigError("config_json is no JSON"), -1, "bad_config", "config_json is no JSON"),
        (ZeroDivisionError("oops"), 1, "", "a defect of the agent: ZeroDivisionError: oops"),
        (TaskFailedError("x" * 100_000), 1, "", "xxx"),
    ],
)
async def test_what_went_wrong_is_told(
    error: Exception,
    exit_code: int,
    refused: str,
    said: str,
    *,
    desk: TaskDesk,
    results: KeptResults,
    worker: Worker,
) -> None:
    """In the existing system the text of a failure was never stored, which left a bare -1."""

    def fail(_job: Job) -> str:
        raise error

    worker.does = fail
    desk.ask(TASK)
    result = await the_end(results)

    assert (exit_code, refused) == (result.exit_code, result.refused)
    assert said in result.error
    assert len(result.error) <= 2_000


async def test_a_task_can_be_cancelled(desk: TaskDesk, results: KeptResults, worker: Worker) -> None:
    """While it runs; ids of others mean nothing."""
    worker.go_on.clear()
    desk.ask(TASK)
    await results.several(1)
    desk.cancel(["t0", "t1"])
    result = await the_end(results)

    assert (-1, "cancelled, as the server asked") == (result.exit_code, result.error)


async def test_a_task_that_waits_for_its_turn_can_be_cancelled(
    desk: TaskDesk, results: KeptResults, worker: Worker
) -> None:
    """It is never begun."""
    worker.go_on.clear()
    desk.ask(TASK)
    desk.ask(Task("t2", "work", "{}", 1))
    await results.several(1)
    desk.cancel(["t2"])
    worker.go_on.set()
    result = await the_end(results, 2)

    assert ("t2", "cancelled, as the server asked") == (result.task_id, result.error)
    assert ["t1"] == [job.task.task_id for job in worker.jobs]


async def test_a_task_that_cannot_be_written_down_is_not_begun(
    results: KeptResults, worker: Worker, tmp_path: Path
) -> None:
    """Else a crash could start it twice unseen."""
    folder = tmp_path / "gone"
    folder.mkdir()
    desk = TaskDesk(results, Attempts(folder), {"work": worker})
    folder.rmdir()

    desk.ask(TASK)
    result = await the_end(results)
    await desk.stop()

    assert [] == worker.jobs
    assert (-1, "") == (result.exit_code, result.refused)
    assert result.error.startswith("the task cannot be taken: ")


async def test_results_that_cannot_be_kept_do_not_end_the_desk(
    desk: TaskDesk, results: KeptResults, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is told in the log; the next task is taken."""
    worker.go_on.clear()
    desk.ask(TASK)
    await results.several(1)
    results.broken = DataDirectoryError("the disk is full")
    worker.go_on.set()
    await settle_files()
    results.broken = None
    desk.ask(Task("t2", "work", "{}", 1))

    assert "t2" == (await the_end(results)).task_id
    assert "the disk is full" in caplog.text


async def test_endless_output_is_cut(desk: TaskDesk, results: KeptResults, worker: Worker) -> None:
    """In the existing system it was appended to one text for ever."""

    def talk(job: Job) -> str:
        for _ in range(200):
            job.say("x" * 4_095)
        return ""

    worker.does = talk
    desk.ask(TASK)
    await the_end(results)

    assert MAX_CHARS >= sum(len(each.chunk) for each in results.kept if isinstance(each, TaskProgress))


def test_only_the_newest_attempts_are_remembered(tmp_path: Path) -> None:
    """But none that has not ended."""
    attempts = Attempts(tmp_path)
    attempts.record(Attempt("open", "work", 1))
    for number in range(REMEMBERED + 5):
        attempts.record(Attempt(f"t{number}", "work", 1, TaskResult(f"t{number}", "work", 1, 0)))

    known = Attempts(tmp_path)
    assert ["open"] == [attempt.task_id for attempt in known.unfinished]
    assert (None, True) == (known.of("t4"), known.of("t5") is not None)


def test_what_comes_late_of_an_older_attempt_is_not_written_down(tmp_path: Path) -> None:
    """Its thread may be slower than the attempt that replaced it."""
    attempts = Attempts(tmp_path)
    attempts.record(Attempt("t1", "work", 2))
    attempts.record(Attempt("t1", "work", 1, TaskResult("t1", "work", 1, 0)))

    assert [Attempt("t1", "work", 2)] == list(Attempts(tmp_path).unfinished)


@pytest.mark.parametrize("content", ["", "{", "[1]", "[{}]", "\x00"])
def test_a_damaged_file_is_as_good_as_none(content: str, tmp_path: Path) -> None:
    """The agent starts; the server's lease ends what nobody reports."""
    (tmp_path / FILE).write_text(content)
    (tmp_path / FILE).chmod(0o600)

    assert () == Attempts(tmp_path).unfinished


RECORD, END = 1, 4
"""Of the durable steps of a task that says one line; in between it is accepted and says it, the fifth writes its
end down."""


class Crash:
    """Ends a process before one of its durable steps, or after it and before anything else."""

    def __init__(self, step: int, *, after: bool, results: KeptResults, attempts: Attempts) -> None:
        self._left = step
        self._after = after
        self._results, self._attempts = results, attempts
        self._loop = asyncio.get_running_loop()
        self.has_happened = asyncio.Event()
        self.is_cleared_away = threading.Event()

    async def put(self, result: Result) -> None:
        is_last = self._is_last()
        if not is_last or self._after:
            await self._results.put(result)
        if is_last:
            self.has_happened.set()
            await asyncio.Event().wait()

    def of(self, task_id: str) -> Attempt | None:
        return self._attempts.of(task_id)

    def record(self, attempt: Attempt) -> None:
        is_last = self._is_last()
        if not is_last or self._after:
            self._attempts.record(attempt)
        if is_last:
            self._loop.call_soon_threadsafe(self.has_happened.set)
            self.is_cleared_away.wait(30)

    def _is_last(self) -> bool:
        self._left -= 1
        return self._left == 0


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(1, 6))
async def test_a_crash_between_any_two_steps_begins_nothing_twice(
    step: int, results: KeptResults, tmp_path: Path, *, after: bool
) -> None:
    """What was written down and has no result is interrupted; what was not is done when it is asked for again."""

    def work(job: Job) -> str:
        job.say("working")
        return ""

    worker = Worker(work)
    crash = Crash(step, after=after, results=results, attempts=Attempts(tmp_path))
    dying = TaskDesk(crash, crash, {"work": worker})  # type: ignore[arg-type]  # it stands for both
    dying.ask(TASK)
    async with asyncio.timeout(20):
        await crash.has_happened.wait()
    await dying.stop()
    next_process = TaskDesk(results, Attempts(tmp_path), {"work": worker})
    await next_process.report_interrupted()
    next_process.ask(TASK)
    await the_end(results)
    await settle_files()
    await next_process.stop()
    crash.is_cleared_away.set()

    was_written_down = step > RECORD or after
    had_ended = step > END or (step == END and after)
    assert 1 >= len(worker.jobs)
    assert ("" if had_ended or not was_written_down else "interrupted") == ended(results)[0].refused


async def settle_files() -> None:
    """Let the file of attempts be written, which a thread does."""
    await until(
        lambda: (
            not any(
                task.get_name().startswith("task ") for task in asyncio.all_tasks() if not task.cancelling()
            )
        )
    )
