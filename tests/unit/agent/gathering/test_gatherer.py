"""All collectors together: one that misbehaves costs no other, no heartbeat and no shutdown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from ct_ops_agent.clock import SYSTEM_CLOCK
from ct_ops_agent.collector import AgentFacts, AnyCollector, Reading, Sample
from ct_ops_agent.gathering.course import Plan
from ct_ops_agent.gathering.gatherer import Gatherer
from ct_ops_agent.samples import CollectorState
from unit.agent.gathering.world import Probe, Sink, Time, one_sample


def plan(name: str, act: Callable[[], Iterator[Reading]]) -> Plan:
    return Plan(name, lambda: Probe(act), 60.0, 5.0)


def gatherer_of(*plans: Plan, sink: Sink) -> Gatherer:
    return Gatherer(plans, sink=sink, clock=Time().clock, random=lambda: 0.0)


@pytest.mark.parametrize("error", [ZeroDivisionError("oh"), SystemExit("oh")])
async def test_one_that_cannot_be_made_is_a_problem_and_the_others_run(error: BaseException) -> None:
    """Whatever its constructor raises."""

    def impossible() -> AnyCollector:
        raise error

    sink = Sink()
    gatherer = gatherer_of(plan("probe", one_sample), Plan("broken", impossible, 30.0, 5.0), sink=sink)
    await gatherer.once()

    assert (
        CollectorState("broken", 30.0, f"it cannot be made: {type(error).__name__}: oh"),
        CollectorState("probe", 60.0, ""),
    ) == gatherer.states()
    assert ["probe.value", "probe.run_seconds"] == [sample.series for sample in sink.taken]


async def test_a_collector_that_hangs_delays_neither_the_others_nor_the_end() -> None:
    """It is left behind in a thread that does not hold the process."""
    release, sink = threading.Event(), Sink()

    def hanging() -> Iterator[Reading]:
        release.wait(30)
        yield Sample("probe.value", 1)

    gatherer = Gatherer(
        [plan("a", hanging), plan("probe", one_sample)], sink=sink, clock=SYSTEM_CLOCK, random=lambda: 0.0
    )
    running = asyncio.create_task(gatherer.run())
    async with asyncio.timeout(10):
        await sink.arrived.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    release.set()


async def test_the_agents_own_collector_is_told_what_the_others_cost() -> None:
    """By the one it asks, not by looking into them."""
    seen: list[AgentFacts] = []

    class Own(Probe):
        def know(self, agent: AgentFacts) -> None:
            seen.append(agent)

    gatherer = gatherer_of(
        plan("probe", one_sample), Plan("own", lambda: Own(one_sample), 60, 5), sink=Sink()
    )
    await gatherer.once()

    (facts,) = seen
    assert ["own", "probe"] == [cost.name for cost in facts.costs()]
    assert [1, 1] == [cost.runs for cost in facts.costs()]
