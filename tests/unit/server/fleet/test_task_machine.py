"""Tasks over crashes, lost pushes, two processes, late and forged results, and cancellations in between.

Hypothesis plays hosts, operators, processes and time against the store in memory, which passes the same
contract suite as the real ones and decides by the same table. What must hold whatever happens is checked
after every move.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from contract.values import APPLICATION, new_agent
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.items import Item, Owned, TaskAccepted, TaskProgress, TaskResult
from ct_ops_server.fleet.model import StreamOpened, StreamOpening
from ct_ops_server.fleet.orders import NewTask, TaskRecord
from ct_ops_server.fleet.tasks import ATTEMPTS, LEASE, LEASED, TaskState
from ct_ops_server.fleet.work_provider import WorkProvider
from fakes.memory_store import MemoryStore
from fakes.memory_work import MemoryWork

AGENTS = ("ours", "existing")
HOUR = timedelta(hours=1)
MOST_TASKS = 4
"""A history; a few that meet each other show more than many that do not."""
ATTEMPT = strategies.sampled_from(["unsaid", "latest", "earlier", "never"])
FINAL = frozenset(state for state in TaskState if not state.is_open) - {TaskState.UNKNOWN}
_Answer = TypeVar("_Answer")


def now_of(coroutine: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Return what a coroutine that never waits returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        answer: _Answer = stop.value
        return answer
    raise AssertionError("the store in memory does not wait")


@dataclass
class Known:
    """What the test knows of a task, from the outside."""

    task_id: str
    agent_id: str
    pushed: int = 0
    alive_at: datetime | None = None
    """The last push or sign of life that counted."""
    ended: TaskRecord | None = None
    results: list[TaskResult] = field(default_factory=list)
    """Those that were taken, in order."""


class Tasks(RuleBasedStateMachine):
    """Two agents, two processes, and everything that can go wrong between them."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2030, 1, 1, tzinfo=UTC)
        self.agents = MemoryStore(lambda: self.now)
        self.work = MemoryWork(self.agents, lambda: self.now)
        self.provider = WorkProvider(self.work, self.work)
        self.known: dict[str, Known] = {}
        self.streams: list[LiveStream] = []
        """Of both processes; the old ones too: a dead connection is not noticed at once."""
        for agent_id in AGENTS:
            applied = replace(APPLICATION, key_id=f"key-{agent_id}", hostname=agent_id)
            now_of(self.agents.admit(new_agent(agent_id, application=applied), leaf=None))
            self.connect(agent_id)

    @precondition(lambda self: len(self.known) < MOST_TASKS)
    @rule(
        target=tasks, agent_id=strategies.sampled_from(AGENTS), minutes=strategies.sampled_from([1, 30, 600])
    )
    def give(self, agent_id: str, minutes: int) -> str:
        """An operator gives a task."""
        task_id = f"t{len(self.known)}"
        lifetime = timedelta(minutes=minutes)
        now_of(self.work.give(NewTask(task_id, agent_id, "software_inventory", "{}", "ada", lifetime)))
        self.known[task_id] = Known(task_id, agent_id)
        return task_id

    @rule(agent_id=strategies.sampled_from(AGENTS))
    def reconnect(self, agent_id: str) -> None:
        """A stream begins; the one before may still look alive to its process."""
        self.connect(agent_id)

    def connect(self, agent_id: str) -> None:
        opened = now_of(self.agents.open_stream(StreamOpening(agent_id, f"key-{agent_id}", "worker", None)))
        assert isinstance(opened, StreamOpened)
        features = frozenset({ATTEMPTS}) if agent_id == "ours" else frozenset[str]()
        self.streams.append(LiveStream(agent_id, opened.generation, features))

    @rule(index=strategies.integers(0, 5))
    def notice_a_dead_stream(self, index: int) -> None:
        """A process forgets a stream."""
        if self.streams:
            self.streams.pop(index % len(self.streams))

    @rule(half=strategies.sampled_from([slice(0, None, 2), slice(1, None, 2), slice(None)]))
    def look(self, half: slice) -> None:
        """One of two processes hands over what is due, or both. Whether the host reads it, nobody knows."""
        for stream, work in now_of(self.provider.due(self.streams[half])).items():
            if work.task is not None:
                self.check_push(stream, self.known[work.task.task_id], work.task.attempt)

    def check_push(self, stream: LiveStream, known: Known, attempt: int) -> None:
        """Rule 21, seen from the outside."""
        task = self.read(known.task_id)
        assert known.agent_id == stream.agent_id
        assert self.agents.is_current(stream.agent_id, stream.generation), "pushed to a dead stream"
        assert attempt <= 3
        if attempt > known.pushed:
            assert attempt == known.pushed + 1
            assert self.now < task.expires_at, "begun after its time"
            if known.alive_at is not None and not self.was_interrupted(known):
                assert self.now >= known.alive_at + LEASE, "pushed again while its lease lived"
        else:
            assert (attempt, "ours") == (known.pushed, stream.agent_id), "an existing agent forgets"
        known.pushed, known.alive_at = attempt, self.now

    def was_interrupted(self, known: Known) -> bool:
        return any(each.refused == "interrupted" for each in known.results)

    def number_of(self, task_id: str, which: str) -> int:
        pushed = self.known[task_id].pushed
        return {"unsaid": 0, "latest": pushed, "earlier": max(pushed - 1, 0), "never": pushed + 1}[which]

    @rule(task_id=tasks, which=ATTEMPT, kind=strategies.booleans())
    def show_life(self, task_id: str, which: str, kind: bool) -> None:  # noqa: FBT001  drawn
        """The agent accepts, or says something; of any attempt, real or not."""
        known, attempt = self.known[task_id], self.number_of(task_id, which)
        item = TaskAccepted(task_id, attempt) if kind else TaskProgress(task_id, attempt, None, "x")
        (refused,) = now_of(self.work.deliver([Owned(known.agent_id, item)]))
        if refused is None:
            assert known.pushed >= max(attempt, 1), "nobody was asked for that"
            known.alive_at = self.now

    @rule(
        task_id=tasks,
        which=ATTEMPT,
        outcome=strategies.sampled_from(["done", "failed", "interrupted"]),
    )
    def report(self, task_id: str, which: str, outcome: str) -> None:
        """A result comes: in time, late, twice, or of an attempt that never was."""
        known, attempt = self.known[task_id], self.number_of(task_id, which)
        result = TaskResult(
            task_id,
            "software_inventory",
            attempt,
            0 if outcome == "done" else -1,
            "",
            "" if outcome == "done" else outcome,
            "interrupted" if outcome == "interrupted" else "",
        )
        before = self.read(task_id)
        (refused,) = now_of(self.work.deliver([Owned(known.agent_id, result)]))
        if refused is None:
            assert known.pushed >= max(attempt, 1)
        if refused is None and before != self.read(task_id):
            known.results.append(result)

    @rule(task_id=tasks, thief=strategies.sampled_from(AGENTS))
    def forge(self, task_id: str, thief: str) -> None:
        """Another agent reports in its place."""
        if thief == self.known[task_id].agent_id:
            return
        before = self.read(task_id)
        items: list[Item] = [
            TaskAccepted(task_id, 0),
            TaskProgress(task_id, 0, None, "x"),
            TaskResult(task_id, "software_inventory", 0, 0, "", "", ""),
        ]
        refused = now_of(self.work.deliver([Owned(thief, item) for item in items]))
        assert ["not_yours"] * 3 == list(refused)
        assert before == self.read(task_id)

    @rule(task_id=tasks)
    def cancel(self, task_id: str) -> None:
        """An operator takes it back."""
        before = self.read(task_id)
        now_of(self.work.cancel_task(task_id, actor="bob"))
        assert before.state in FINAL | {TaskState.UNKNOWN} or self.read(task_id).state in {
            TaskState.CANCELLED,
            TaskState.CANCELLING,
        }

    @rule(minutes=strategies.sampled_from([1, 9, 11, 25]))
    def let_time_pass(self, minutes: int) -> None:
        """Between two sweeps, or many."""
        self.now += timedelta(minutes=minutes)

    @rule()
    def lose_an_attempt(self) -> None:
        """What is due goes to hosts that are never heard of again."""
        self.look(slice(None))
        self.let_time_pass(11)
        self.sweep()

    @rule()
    def sweep(self) -> None:
        """Either process does it, at any time."""
        now_of(self.work.sweep_tasks())

    @invariant()
    def what_is_over_stays_as_it_was(self) -> None:
        """Unknown is the one end that may still turn into a real one."""
        for known in self.known.values():
            task = self.read(known.task_id)
            if known.ended is not None:
                assert known.ended == task
            elif task.state in FINAL:
                known.ended = task

    @invariant()
    def an_agent_holds_one_task_at_a_time(self) -> None:
        """However many are open. A task thought lost that turns out to live may be a second one."""
        for agent_id in AGENTS:
            held = [
                known
                for known in self.known.values()
                if known.agent_id == agent_id and self.read(known.task_id).state in LEASED
            ]
            assert len([known for known in held if self.read(known.task_id).state is TaskState.SENT]) <= 1

    @invariant()
    def a_task_has_the_first_result(self) -> None:
        """None, when it ended without one."""
        for known in self.known.values():
            task = self.read(known.task_id)
            if task.state in {TaskState.DONE, TaskState.FAILED}:
                first = next(each for each in known.results if each.refused != "interrupted")
                assert (first.exit_code, first.error) == (task.exit_code, task.error)
                assert (task.state is TaskState.DONE) == (first.exit_code == 0)

    def teardown(self) -> None:
        """Whatever happened: when nobody does anything any more, every task comes to an end."""
        for _ in range(12):
            self.now += HOUR
            now_of(self.work.sweep_tasks())
        for known in self.known.values():
            assert not self.read(known.task_id).state.is_open
        self.what_is_over_stays_as_it_was()

    def read(self, task_id: str) -> TaskRecord:
        (found,) = now_of(self.work.find_tasks(task_id))
        return found


TestTasks = pytest.mark.timeout(300)(Tasks.TestCase)
TestTasks.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
