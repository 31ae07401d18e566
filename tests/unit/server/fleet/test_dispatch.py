"""Dispatch: what is due reaches live streams at once, once, and a slow one holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from ct_ops_server.fleet.bus import Bus
from ct_ops_server.fleet.dispatch import Dispatch, LiveStream, Told
from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.fleet.work import AskedQuery, AskedTask, CheckDefinition, Work

A, B = LiveStream("a", 1), LiveStream("b", 1, frozenset({"definitions"}))
QUERY = AskedQuery("q1", "list_ports", timedelta(milliseconds=40))
TASK = AskedTask("t1", "software_inventory", "{}", 1)
CHECK = CheckDefinition("c1", "port", "{}", 60)


@dataclass
class Desk:
    """A provider whose work a test lays out."""

    topic: str = "work"
    work: dict[LiveStream, Work] = field(default_factory=dict)
    asked: list[frozenset[LiveStream]] = field(default_factory=list)
    failures: int = 0

    async def due(self, streams: Sequence[LiveStream]) -> Mapping[LiveStream, Work]:
        self.asked.append(frozenset(streams))
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("the database does not answer")
        return {stream: self.work[stream] for stream in streams if stream in self.work}


class Agent:
    """The far end of a stream. It may refuse to read."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[Work] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()

    async def write(self, work: Work) -> None:
        await self.reads.wait()
        self.got.put_nowait(work)

    async def next(self) -> Work:
        async with asyncio.timeout(30):
            return await self.got.get()


@dataclass
class Running:
    """A dispatch on a running bus."""

    bus: Bus
    dispatch: Dispatch
    observed: list[timedelta]
    now_s: float = 0.0

    @asynccontextmanager
    async def agent(self, stream: LiveStream) -> AsyncIterator[Agent]:
        agent = Agent()
        async with self.dispatch.connected(stream, agent.write):
            yield agent


@asynccontextmanager
async def running(*desks: Desk) -> AsyncIterator[Running]:
    bus, observed = Bus(), list[timedelta]()
    dispatch = Dispatch(hint=bus.hint, observe=observed.append, monotonic_s=lambda: world.now_s)
    dispatch.serve(bus, desks)
    world = Running(bus, dispatch, observed)
    task = asyncio.create_task(bus.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("it does not happen")


async def settled() -> None:
    """Let everything that can happen without a wait happen."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_waits_for_an_agent_is_handed_over_when_its_stream_begins() -> None:
    """It was asked for while the agent was away."""
    async with running(Desk(work={A: Work(queries=(QUERY,))})) as world, world.agent(A) as agent:
        assert Work(queries=(QUERY,)) == await agent.next()


async def test_a_hint_hands_over_what_is_due_at_once_and_says_how_long_it_took() -> None:
    """One call asks for all streams of the process."""
    desk = Desk()
    async with running(desk) as world, world.agent(A) as a, world.agent(B) as b:
        await settled()
        world.now_s += 3_600
        desk.asked.clear()
        desk.work = {A: Work(queries=(QUERY,)), B: Work(task=TASK)}
        world.bus.hint("work")

        assert Work(queries=(QUERY,)) == await a.next()
        assert Work(task=TASK) == await b.next()
        assert [frozenset({A, B})] == desk.asked
        await until(lambda: bool(world.observed))
        assert [timedelta(milliseconds=40)] == world.observed


async def test_what_waited_for_its_agent_is_no_slow_push() -> None:
    """An hour in which the host was off is not counted."""
    old = AskedQuery("q1", "list_ports", timedelta(hours=1))
    async with running(Desk(work={A: Work(queries=(old,))})) as world, world.agent(A) as agent:
        await agent.next()
        await until(lambda: bool(world.observed))

        assert [timedelta(0)] == world.observed


async def test_idle_streams_cost_the_store_nothing() -> None:
    """After they were looked at once, nobody asks until there is a hint."""
    desk = Desk()
    async with running(desk) as world, world.agent(A), world.agent(B):
        await settled()
        desk.asked.clear()
        await settled()

        assert [] == desk.asked


async def test_a_stream_is_told_once_and_the_next_one_again() -> None:
    """An existing agent forgets what it was told when its stream ends."""
    desk = Desk(work={A: Work(queries=(QUERY,)), LiveStream("a", 2): Work(queries=(QUERY,))})
    async with running(desk) as world:
        async with world.agent(A) as agent:
            await agent.next()
            world.bus.hint("work")
            await settled()
            assert agent.got.empty()
        async with world.agent(LiveStream("a", 2)) as again:
            assert Work(queries=(QUERY,)) == await again.next()


async def test_a_slow_reader_is_not_asked_for_and_gets_the_rest_when_it_reads_again() -> None:
    """A hundred hints leave one note, and the other agents have theirs meanwhile."""
    desk = Desk(work={A: Work(queries=(QUERY,))})
    async with running(desk) as world, world.agent(B) as quick, world.agent(A) as slow:
        slow.reads.clear()
        await until(lambda: any(A in asked for asked in desk.asked))
        await settled()
        desk.asked.clear()
        later = AskedQuery("q2", "list_services")
        desk.work = {A: Work(queries=(QUERY, later)), B: Work(queries=(QUERY,))}
        for _ in range(100):
            world.bus.hint("work")
            await asyncio.sleep(0)
        assert Work(queries=(QUERY,)) == await quick.next()
        assert all(asked == frozenset({B}) for asked in desk.asked)
        slow.reads.set()

        assert Work(queries=(QUERY,)) == await slow.next()
        assert Work(queries=(later,)) == await slow.next()


async def test_a_provider_that_cannot_read_is_asked_again_for_streams_that_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An outage of the store at that moment costs two seconds, not half a minute."""
    monkeypatch.setattr("ct_ops_server.fleet.dispatch.RETRY_EVERY", timedelta(seconds=0.01))
    desk = Desk(work={A: Work(queries=(QUERY,))})
    async with running(desk) as world:
        await settled()
        desk.failures = 3
        async with world.agent(A) as agent:
            assert Work(queries=(QUERY,)) == await agent.next()


async def test_every_provider_is_asked_and_has_its_own_hints() -> None:
    """A new query does not make anybody read definitions."""
    queries, checks = Desk(), Desk(topic="checks", work={A: Work(checks=(CHECK,))})
    async with running(queries, checks) as world, world.agent(A) as agent:
        assert Work(checks=(CHECK,)) == await agent.next()
        checks.asked.clear()
        queries.work = {A: Work(queries=(QUERY,))}
        world.bus.hint("work")
        assert Work(queries=(QUERY,)) == await agent.next()
        assert [] == checks.asked


async def test_a_stream_that_brought_a_result_is_looked_at_for_more() -> None:
    """It alone, by the provider of that topic; a stream that has ended meanwhile is let be."""
    queries, checks = Desk(), Desk(topic="checks")
    async with running(queries, checks) as world, world.agent(A) as agent, world.agent(B):
        await settled()
        queries.asked.clear()
        checks.asked.clear()
        queries.work = {A: Work(task=TASK)}
        world.dispatch.look_again(LiveStream("a", 1), "work")
        world.dispatch.look_again(LiveStream("gone", 1), "work")

        assert Work(task=TASK) == await agent.next()
        assert ([frozenset({A})], []) == (queries.asked, checks.asked)


async def test_a_stream_that_ends_while_it_is_written_to_leaves_nothing_behind() -> None:
    """Neither a task nor a place in the table."""
    desk = Desk(work={A: Work(queries=(QUERY,))})
    async with running(desk) as world:
        async with world.agent(A) as agent:
            agent.reads.clear()
            await until(lambda: any("push to a" == task.get_name() for task in asyncio.all_tasks()))
        assert not any("push to a" == task.get_name() for task in asyncio.all_tasks())
        desk.asked.clear()
        world.bus.hint("work")
        await settled()
        assert [] == desk.asked


def test_a_list_of_checks_is_news_when_it_is_another_one() -> None:
    """Also the empty list, once."""
    told = Told()

    assert (CHECK,) == told.news(Work(checks=(CHECK,))).checks
    assert told.news(Work(checks=(CHECK,))).checks is None
    assert told.news(Work()).checks is None
    assert () == told.news(Work(checks=())).checks
    assert told.news(Work(checks=())).checks is None
    assert (CHECK,) == told.news(Work(checks=(CHECK,))).checks


def test_what_a_stream_remembers_has_an_end() -> None:
    """A stream of months is no leak."""
    told = Told()
    for number in range(10_000):
        told.news(Work(queries=(AskedQuery(f"q{number}", "list_ports"),)))

    assert 256 == len(told._ids)
    assert not told.news(Work(queries=(AskedQuery("q9999", "list_ports"),)))
