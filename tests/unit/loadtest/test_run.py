"""A run with agents that live in memory: who is counted as what, and how many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import grpc
import pytest

from ct_ops_loadtest import run as flow
from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.virtual_agent import NotServedError, Target

TARGET = Target("127.0.0.1:1", b"", "tok_opaque")


def refusal(details: str) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details=details)


@dataclass
class Site:
    """All agents of one run, and what becomes of each by its hostname."""

    registers: Callable[[str], Exception | None] = lambda _: None
    connects: Callable[[str], Exception | None] = lambda _: None
    beats: Callable[[str], Exception | None] = lambda _: None
    registering: int = 0
    most_at_a_time: int = 0
    offsets_s: dict[str, float] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)

    def agent(self, target: Target, hostname: str) -> Agent:
        """Take the constructor's place."""
        assert target is TARGET
        return Agent(self, hostname)


@dataclass
class Agent:
    """Does at once what its site says."""

    site: Site
    hostname: str

    async def register(self) -> None:
        """Register."""
        self.site.registering += 1
        self.site.most_at_a_time = max(self.site.most_at_a_time, self.site.registering)
        await asyncio.sleep(0)
        self.site.registering -= 1
        raise_it(self.site.registers(self.hostname))

    async def connect(self) -> str:
        """Open a stream."""
        raise_it(self.site.connects(self.hostname))
        return f"stream of {self.hostname}"

    async def beat(
        self, stream: str, *, until_s: float, interval_s: float, offset_s: float
    ) -> AsyncIterator[float]:
        """Beat twice."""
        assert f"stream of {self.hostname}" == stream
        assert until_s > 0 <= interval_s
        self.site.offsets_s[self.hostname] = offset_s
        yield 0.1
        raise_it(self.site.beats(self.hostname))
        yield 0.2

    async def close(self) -> None:
        """Close."""
        self.site.closed.append(self.hostname)


def raise_it(error: Exception | None) -> None:
    if error is not None:
        raise error


def only(hostname: str, error: Exception) -> Callable[[str], Exception | None]:
    return lambda name: error if name == hostname else None


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site()
    monkeypatch.setattr(flow, "VirtualAgent", made.agent)
    yield made
    assert 0 == made.registering


async def carried_out(
    *, agents: int = 3, concurrency: int = 8, interval_s: float = 30, seed: int = 1
) -> Tally:
    plan = flow.Plan(agents, 1.0, interval_s, concurrency, "load", seed)
    return await flow.run(TARGET, plan, lambda _: None)


async def test_all_agents_register_connect_and_beat(site: Site) -> None:
    """Each has a hostname of its own, and all round trips are in the figures."""
    tally = await carried_out()

    assert (3, 0, [0.1, 0.2] * 3) == (tally.registered, tally.failed, tally.round_trips_s)
    assert ["load-00000", "load-00001", "load-00002"] == sorted(site.offsets_s)


async def test_no_more_register_at_a_time_than_planned(site: Site) -> None:
    """The concurrency is what a figure of registrations a second was measured with."""
    await carried_out(agents=20, concurrency=4)

    assert 4 == site.most_at_a_time


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (refusal("the server is full"), "UNAVAILABLE: the server is full"),
        (NotServedError("registered as pending"), "registered as pending"),
    ],
)
@pytest.mark.parametrize(
    ("step", "registered", "measured"),
    [
        ("registers", 2, [0.1, 0.2] * 2),
        ("connects", 3, [0.1, 0.2] * 2),
        ("beats", 3, [0.1, 0.2, 0.1, 0.1, 0.2]),
    ],
)
async def test_whoever_is_refused_is_counted_and_disturbs_nobody(
    site: Site, *, step: str, registered: int, measured: list[float], error: Exception, counted: str
) -> None:
    """At every step: one failure with its sentence, and whatever was measured until then."""
    setattr(site, step, only("load-00001", error))
    tally = await carried_out()

    assert {counted: 1} == dict(tally.failures)
    assert (registered, measured) == (tally.registered, tally.round_trips_s)


async def test_a_server_that_refuses_everybody_still_gets_figures(site: Site) -> None:
    """Nobody to connect, nobody to beat, every failure counted."""
    site.registers = lambda _: refusal("no")
    tally = await carried_out()

    assert (0, {"UNAVAILABLE: no": 3}, []) == (tally.registered, dict(tally.failures), tally.round_trips_s)


async def test_every_connection_is_closed_whatever_became_of_it(site: Site) -> None:
    """A long series of runs must not run out of descriptors."""
    site.connects = only("load-00002", refusal("no"))
    await carried_out()

    assert ["load-00000", "load-00001", "load-00002"] == sorted(site.closed)


async def test_first_frames_are_spread_over_the_interval_the_same_way_for_the_same_seed(site: Site) -> None:
    """So that 10,000 agents are a load and not a thunderclap, and a run can be repeated."""
    await carried_out(agents=50, seed=7)
    first = dict(site.offsets_s)
    await carried_out(agents=50, seed=7)
    again = dict(site.offsets_s)
    await carried_out(agents=50, seed=8)

    assert first == again
    assert first != site.offsets_s
    assert min(first.values()) < 10
    assert 20 < max(first.values()) < 30


async def test_a_closed_loop_starts_at_once(site: Site) -> None:
    """Without an interval there is nothing to spread over."""
    await carried_out(interval_s=0)

    assert {0.0} == set(site.offsets_s.values())
