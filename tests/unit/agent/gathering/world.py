"""What gathering needs around it, in memory: a sink, a clock that a test moves, collectors that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from ct_ops_agent.clock import Clock
from ct_ops_agent.collector import About, Collector, Reading, Sample, SampleDoc, Settings
from ct_ops_agent.gathering.course import Course, Plan
from ct_ops_agent.samples import TimedSample

START = 1_700_000_000.0


class Sink:
    """Takes samples."""

    def __init__(self) -> None:
        self.taken: list[TimedSample] = []
        self.arrived = asyncio.Event()

    async def put_samples(self, samples: Sequence[TimedSample]) -> None:
        self.taken.extend(samples)
        self.arrived.set()


class OverError(Exception):
    """The time of the test is over."""


class Time:
    """A clock that sleeping moves, until the test is over."""

    def __init__(self, lasts_s: float = 0.0) -> None:
        self.now = 0.0
        self._over_at = lasts_s

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self._over_at:
            raise OverError
        await asyncio.sleep(0)

    @property
    def clock(self) -> Clock:
        return Clock(wall=lambda: START + self.now, monotonic=lambda: self.now, sleep=self.sleep)


class Probe(Collector[Settings]):
    """Does what a test wants."""

    about = About(
        name="probe",
        summary="A probe.",
        reads="nothing",
        cost="nothing",
        interval=timedelta(seconds=60),
        samples=(SampleDoc("probe.value", "", "a number"),),
    )

    def __init__(self, act: Callable[[], Iterator[Reading]]) -> None:
        super().__init__(Settings())
        self._act = act

    def collect(self) -> Iterator[Reading]:
        return self._act()


def one_sample() -> Iterator[Reading]:
    yield Sample("probe.value", 1.0)


def course_of(
    act: Callable[[], Iterator[Reading]],
    *,
    sink: Sink,
    time: Time,
    interval_s: float = 60.0,
    timeout_s: float = 5.0,
) -> Course:
    """One collector, about to run."""
    probe = Probe(act)
    plan = Plan("probe", lambda: probe, interval_s, timeout_s)
    return Course(plan, probe, sink=sink, clock=time.clock, random=lambda: 0.5)
