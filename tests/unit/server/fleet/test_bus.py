"""The push bus: hints make things happen now, and nothing depends on them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from ct_ops_server.fleet.bus import Bus
from ct_ops_server.fleet.ports import StoreUnavailableError

NEVER = timedelta(days=1)
AT_ONCE = timedelta(0)


class Work:
    """A ``catch_up`` that can be watched, held and made to fail."""

    def __init__(self) -> None:
        self.runs = 0
        self.running = 0
        self.failures = 0
        self.begun: asyncio.Queue[int] = asyncio.Queue()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def catch_up(self) -> None:
        self.running += 1
        assert 1 == self.running, "two runs at the same time"
        self.runs += 1
        self.begun.put_nowait(self.runs)
        try:
            await self.may_end.wait()
            if self.failures:
                self.failures -= 1
                raise StoreUnavailableError("the database does not answer")
        finally:
            self.running -= 1

    async def next_run(self) -> int:
        async with asyncio.timeout(30):
            return await self.begun.get()


@asynccontextmanager
async def running(bus: Bus) -> AsyncIterator[None]:
    task = asyncio.create_task(bus.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_topic_is_caught_up_with_at_the_start_and_at_every_hint() -> None:
    """What was left undone before this process lived is done first."""
    bus, work = Bus(), Work()
    bus.subscribe("endings", work.catch_up, every=NEVER)
    async with running(bus):
        assert 1 == await work.next_run()
        bus.hint("endings")
        assert 2 == await work.next_run()
        bus.hint("something else")
        bus.hint_all()
        assert 3 == await work.next_run()
    assert 3 == work.runs


async def test_a_topic_is_caught_up_with_also_when_no_hint_ever_comes() -> None:
    """Hints may be lost; the interval is what is promised."""
    bus, work = Bus(), Work()
    bus.subscribe("endings", work.catch_up, every=AT_ONCE)
    async with running(bus):
        assert [1, 2, 3] == [await work.next_run() for _ in range(3)]


async def test_a_hint_that_comes_during_a_run_makes_one_more_run() -> None:
    """What it hinted at may have been committed after the run had read. Ten hints make one run, not ten."""
    bus, work = Bus(), Work()
    bus.subscribe("endings", work.catch_up, every=NEVER)
    work.may_end.clear()
    async with running(bus):
        await work.next_run()
        for _ in range(10):
            bus.hint("endings")
        work.may_end.set()
        assert 2 == await work.next_run()
        await asyncio.sleep(0)
    assert 2 == work.runs


async def test_an_outage_is_waited_out_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log says when it begins to fail, not at every try."""
    bus, work = Bus(), Work()
    work.failures = 5
    bus.subscribe("endings", work.catch_up, every=AT_ONCE)
    with caplog.at_level(logging.WARNING):
        async with running(bus):
            while await work.next_run() < 7:
                pass

    assert ["endings cannot be caught up with for now: the database does not answer"] == caplog.messages


async def test_one_topic_that_hangs_does_not_hold_up_another() -> None:
    """Each has a turn of its own."""
    bus, hanging, lively = Bus(), Work(), Work()
    hanging.may_end.clear()
    bus.subscribe("hanging", hanging.catch_up, every=NEVER)
    bus.subscribe("lively", lively.catch_up, every=NEVER)
    async with running(bus):
        await hanging.next_run()
        await lively.next_run()
        bus.hint("lively")
        assert 2 == await lively.next_run()
