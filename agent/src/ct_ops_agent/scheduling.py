"""When things are due: APScheduler, made safe against clocks that jump.

APScheduler plans by the wall clock. Two guards make that harmless:

* :class:`SafeIntervalTrigger` never lists the times that were missed. The original walks through
  all of them: after a jump of a year with a short interval that takes many seconds and hundreds of
  megabytes (upstream issues 526 and 1066).
* :meth:`Schedule.guard` compares wall and monotonic clock every few seconds. When they have drifted
  apart, the clock was set: every job is made due now and goes on from there. Without it a clock set
  back by an hour would silence the agent for that hour (upstream issues 339 and 351).

All times are UTC; a local time zone has hours that do not exist.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from ct_ops_agent.clock import Clock

_log = logging.getLogger(__name__)

GUARD_INTERVAL_S = 5.0
_TOLERATED_DRIFT_S = 2.0
"""NTP slews by far less between two looks."""


class SafeIntervalTrigger(IntervalTrigger):  # type: ignore[misc] # APScheduler 3 has no types
    """Fires every interval; what was missed is skipped, not listed."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return the next time, always after `now`."""
        planned: datetime = super().get_next_fire_time(previous_fire_time, now)
        return planned if planned > now else now + self.interval


class ClockWatch:
    """Notices that the wall clock was set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = self._read_offset()

    def jump(self) -> float:
        """Return by how many seconds the wall clock was set since the last look, 0 if it was not."""
        before, self._offset = self._offset, self._read_offset()
        drift = self._offset - before
        return drift if abs(drift) > _TOLERATED_DRIFT_S else 0.0

    def _read_offset(self) -> float:
        return self._clock.wall() - self._clock.monotonic()


class Schedule:
    """The agent's recurring work."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watch = ClockWatch(clock)
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def every(self, interval: timedelta, name: str, action: Callable[[], None]) -> None:
        """Call `action` on the event loop once an interval."""
        trigger = SafeIntervalTrigger(seconds=interval.total_seconds(), timezone=UTC)
        self._scheduler.add_job(_on_loop(action), trigger, id=name)

    async def guard(self) -> NoReturn:
        """Run the schedule until cancelled, and set it right after each jump of the clock."""
        self._scheduler.start()
        try:
            while True:
                await self._clock.sleep(GUARD_INTERVAL_S)
                self.set_right()
        finally:
            self._scheduler.shutdown(wait=False)

    def set_right(self) -> None:
        """Make every job due now if the wall clock was set since the last call."""
        jump = self._watch.jump()
        if not jump:
            return
        _log.info("the clock was set by %+.0f s; everything due is done now", jump)
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=now)


def _on_loop(action: Callable[[], None]) -> Callable[[], object]:
    # A plain function would be run in a thread by APScheduler; a coroutine runs on the loop.
    async def run() -> None:
        action()

    return run
