"""The schedule survives clocks that jump."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from ct_ops_agent.clock import Clock
from ct_ops_agent.scheduling import ClockWatch, SafeIntervalTrigger, Schedule

NOW = datetime(2026, 11, 24, tzinfo=UTC)
JUMPS = pytest.mark.parametrize(
    "jump", [timedelta(days=-1), timedelta(days=365)], ids=["-1 day", "+365 days"]
)


@dataclass
class JumpingClock:
    """Clocks that a test sets; sleeping waits for the test to let it go on."""

    wall_s: float = field(default_factory=lambda: datetime.now(UTC).timestamp())
    monotonic_s: float = 1000.0
    waking: asyncio.Event = field(default_factory=asyncio.Event)

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.wall_s, monotonic=lambda: self.monotonic_s, sleep=self._sleep)

    async def _sleep(self, _seconds: float) -> None:
        await self.waking.wait()
        self.waking.clear()


@asynccontextmanager
async def guarded(schedule: Schedule) -> AsyncIterator[None]:
    """Run a schedule for the length of a block."""
    guarding = asyncio.create_task(schedule.guard())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        guarding.cancel()
        with suppress(asyncio.CancelledError):
            await guarding


@pytest.mark.parametrize("jump", [timedelta(seconds=11), timedelta(days=365), timedelta(days=20_000)])
def test_missed_times_are_skipped_and_not_listed(jump: timedelta) -> None:
    """After any jump forward the next time is one interval from now, found in one step."""
    trigger = SafeIntervalTrigger(seconds=10, timezone=UTC)

    assert NOW + jump + timedelta(seconds=10) == trigger.get_next_fire_time(NOW, NOW + jump)


def test_without_a_jump_the_rhythm_is_kept() -> None:
    """A tick that comes a little late does not move the following ones."""
    trigger = SafeIntervalTrigger(seconds=10, timezone=UTC)

    assert NOW + timedelta(seconds=10) == trigger.get_next_fire_time(NOW, NOW + timedelta(seconds=1))


@JUMPS
def test_a_jump_is_noticed_once(jump: timedelta) -> None:
    """Wall and monotonic clock drift apart: that is a jump, and after it all is well again."""
    time = JumpingClock()
    watch = ClockWatch(time.clock())

    time.wall_s += jump.total_seconds() + 5
    time.monotonic_s += 5

    assert jump.total_seconds() == pytest.approx(watch.jump(), abs=0.01)
    assert 0 == watch.jump()


def test_passing_time_is_no_jump() -> None:
    """Clocks that go on together, give or take what NTP slews, are left alone."""
    time = JumpingClock()
    watch = ClockWatch(time.clock())

    time.wall_s += 3600.5
    time.monotonic_s += 3600

    assert 0 == watch.jump()


@JUMPS
async def test_after_a_jump_everything_is_due_at_once(jump: timedelta) -> None:
    """The heartbeat is not silent for the day that the clock went back, nor run for all it skipped."""
    time, runs, ran = JumpingClock(), list[int](), asyncio.Event()

    def tick() -> None:
        runs.append(1)
        ran.set()

    schedule = Schedule(time.clock())
    schedule.every(timedelta(seconds=3600), "heartbeat", tick)

    async with guarded(schedule):
        [job] = schedule._scheduler.get_jobs()
        # What the job is left with when the clock is set: its next time as far away as the jump.
        job.modify(next_run_time=job.next_run_time - jump)
        time.monotonic_s -= jump.total_seconds()
        time.waking.set()
        async with asyncio.timeout(30):
            await ran.wait()
        upcoming = job.next_run_time - datetime.now(UTC)

    assert [1] == runs
    assert timedelta(seconds=3500) < upcoming <= timedelta(seconds=3600)


async def test_a_year_that_was_skipped_costs_no_memory() -> None:
    """Attack on memory: a board that boots in 1970 and is then told the time."""
    ran = asyncio.Event()
    schedule = Schedule(JumpingClock().clock())
    schedule.every(timedelta(seconds=1), "heartbeat", ran.set)

    async with guarded(schedule):
        [job] = schedule._scheduler.get_jobs()
        tracemalloc.start()
        job.modify(next_run_time=datetime(1970, 1, 2, tzinfo=UTC))
        async with asyncio.timeout(30):
            await ran.wait()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 1_000_000


async def test_work_recurs() -> None:
    """An interval is an interval: the action comes again."""
    count, enough = [0], asyncio.Event()

    def tick() -> None:
        count[0] += 1
        if count[0] == 2:
            enough.set()

    schedule = Schedule(Clock())
    schedule.every(timedelta(seconds=0.05), "tick", tick)

    async with guarded(schedule), asyncio.timeout(30):
        await enough.wait()
