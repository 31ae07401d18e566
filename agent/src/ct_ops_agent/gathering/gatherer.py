"""All collectors of this host, each on its own course; and what is known of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import NoReturn

from ct_ops_agent.clock import Clock
from ct_ops_agent.collector import AgentFacts, CollectorCost, WantsAgentFacts
from ct_ops_agent.gathering.course import Course, Plan
from ct_ops_agent.gathering.readings import describe
from ct_ops_agent.gathering.thread_watch import ThreadWatch
from ct_ops_agent.samples import CollectorState, TakesSamples

_log = logging.getLogger(__name__)


class Gatherer:
    """Runs the collectors. One that cannot be made is a problem of its own, and of nobody else."""

    def __init__(
        self,
        plans: Iterable[Plan],
        *,
        sink: TakesSamples,
        clock: Clock,
        random: Callable[[], float],
        outbox_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """Prepare.

        Args:
            plans: what is to run.
            sink: where samples go.
            clock: of this host.
            random: uniform in [0, 1), for the jitter of ticks.
            outbox_bytes: how much waits to be delivered, for the agent's own collector.
        """
        self._broken: list[CollectorState] = []
        self._courses: list[Course] = []
        facts, threads = _Facts(self, outbox_bytes), ThreadWatch()
        for plan in sorted(plans, key=lambda plan: plan.name):
            try:
                collector = plan.make()
                if isinstance(collector, WantsAgentFacts):
                    collector.know(facts)
            except (Exception, SystemExit) as error:  # noqa: BLE001  whatever an author's constructor raises
                problem = f"it cannot be made: {describe(error)}"
                _log.warning("collector %s: %s", plan.name, problem)
                self._broken.append(CollectorState(plan.name, plan.interval_s, problem))
                continue
            course = Course(plan, collector, sink=sink, clock=clock, random=random, threads=threads)
            self._courses.append(course)

    async def run(self) -> NoReturn:
        """Gather until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for course in self._courses:
                tasks.create_task(course.run(), name=f"collector {course.plan.name}")
            await asyncio.Event().wait()
        raise AssertionError("only cancellation ends the wait")

    async def once(self) -> None:
        """Run every collector once, all at the same time."""
        async with asyncio.TaskGroup() as tasks:
            for course in self._courses:
                tasks.create_task(course.once())

    def missing(self) -> dict[str, str]:
        """Return what the host does not let a collector see, by collector."""
        return {course.plan.name: course.health.missing for course in self._courses if course.health.missing}

    def states(self) -> tuple[CollectorState, ...]:
        """Return how each collector is (`samples.KnowsCollectors`)."""
        running = (
            CollectorState(course.plan.name, course.plan.interval_s, course.health.problem)
            for course in self._courses
        )
        return tuple(sorted((*running, *self._broken), key=lambda state: state.name))

    def costs(self) -> tuple[CollectorCost, ...]:
        """Return what each collector has cost so far."""
        return tuple(
            CollectorCost(
                name=course.plan.name,
                runs=course.health.runs,
                cpu_s=course.health.cpu_s,
                duration_s=course.health.duration_s,
                samples=course.health.samples,
            )
            for course in self._courses
        )


class _Facts(AgentFacts):
    """What the agent's own collector may ask."""

    def __init__(self, gatherer: Gatherer, outbox_bytes: Callable[[], int]) -> None:
        self._gatherer = gatherer
        self._outbox_bytes = outbox_bytes

    def costs(self) -> tuple[CollectorCost, ...]:
        """Of every collector."""
        return self._gatherer.costs()

    def outbox_bytes(self) -> int:
        """What waits to be delivered."""
        return self._outbox_bytes()
