"""The sweep: it ends what is over, tells dispatch what is due again, and outlives an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.fleet.tasks import TaskState
from ct_ops_server.fleet.work_provider import TaskSweep
from fakes.memory_store import MemoryStore
from fakes.memory_work import MemoryWork


class Swept(MemoryWork):
    """Tasks whose sweeps a test lays out."""

    def __init__(self, *outcomes: Mapping[TaskState, int] | None) -> None:
        super().__init__(MemoryStore())
        self.outcomes = list(outcomes)

    async def sweep_tasks(self) -> Mapping[TaskState, int]:
        outcome = self.outcomes.pop(0) if self.outcomes else {}
        if outcome is None:
            raise StoreUnavailableError("the database does not answer")
        return outcome


@dataclass
class Heard:
    """What a sweep told others."""

    hints: list[str] = field(default_factory=list)
    counts: list[Mapping[TaskState, int]] = field(default_factory=list)


def sweep_of(store: MemoryWork, heard: Heard) -> TaskSweep:
    return TaskSweep(
        store, hint=heard.hints.append, observe=heard.counts.append, every=timedelta(seconds=0.001)
    )


async def test_tasks_that_may_be_tried_again_are_due_at_once() -> None:
    """Those that are over are nobody's news."""
    heard = Heard()
    sweep = sweep_of(Swept({TaskState.EXPIRED: 3}, {TaskState.WAITING: 1}), heard)
    await sweep.tick()
    assert [] == heard.hints
    await sweep.tick()

    assert ["work"] == heard.hints
    assert {state.value for state in heard.counts[0]} == {"waiting", "sent", "running", "cancelling"}


async def test_an_outage_is_waited_out() -> None:
    """The sweep goes on when the database is back."""
    heard = Heard()
    task = asyncio.create_task(sweep_of(Swept(None, None, {TaskState.WAITING: 1}), heard).run())
    async with asyncio.timeout(30):
        while not heard.hints:  # noqa: ASYNC110  the sweep has its own clock
            await asyncio.sleep(0.001)
    task.cancel()

    assert ["work"] == heard.hints
