"""The agents of one process: start them, let the plan's faults happen, count, and end.

starting    agents start over the ramp; ``on_settled`` is called when each was served or refused once
holding     from ``hold`` on: heartbeats are counted for the rate, and faults happen at their times
ended       when ``stop`` is set: streams are closed with a goodbye, connections with them
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.life import Ground, Life
from ct_ops_loadtest.plan import Plan, Target
from ct_ops_loadtest.shared import SharedConnections

_GOODBYE_S = 0.2
_PAGE = resource.getpagesize()


class Driver:
    """Drives some of a plan's agents."""

    def __init__(self, target: Target, plan: Plan, numbers: Sequence[int], *, concurrency: int) -> None:
        self.tally = Tally(agents=len(numbers))
        self._plan = plan
        self._numbers = numbers
        self._began_cpu_s, self._began_memory = _cpu_s(), _memory_bytes()
        self._ground = Ground(
            target,
            plan,
            self.tally,
            anonymous=target.trust.context(),
            turns=asyncio.Semaphore(concurrency),
            connections=SharedConnections(plan.fanout),
            began_s=time.monotonic(),
            unsettled=len(numbers),
        )
        self._held_from_s: float | None = None

    async def run(self, *, on_settled: Callable[[], None], hold: asyncio.Event, stop: asyncio.Event) -> None:
        """Drive until ``stop`` is set."""
        lives = {number: Life(self._ground, number) for number in self._numbers}
        tasks = [asyncio.create_task(life.run()) for life in lives.values()]
        course = asyncio.create_task(self._course(lives, on_settled, hold))
        try:
            await stop.wait()
        finally:
            self.measure()
            for task in (course, *tasks):
                task.cancel()
            await asyncio.gather(course, *tasks, return_exceptions=True)
            for life in lives.values():
                life.close()
            await asyncio.sleep(_GOODBYE_S)  # what was written last leaves
        self._raise_mistakes(tasks)

    def measure(self) -> Tally:
        """Bring what is measured up to date; return the tally."""
        self.tally.cpu_s = _cpu_s() - self._began_cpu_s
        if self._held_from_s is not None:
            self.tally.held_s = time.monotonic() - self._held_from_s
        return self.tally

    async def _course(
        self, lives: dict[int, Life], on_settled: Callable[[], None], hold: asyncio.Event
    ) -> None:
        if lives:
            await self._ground.settled.wait()
        self.tally.memory_bytes = max(0, _memory_bytes() - self._began_memory)
        on_settled()
        await hold.wait()
        self._held_from_s = time.monotonic()
        self._ground.hold.set()
        for place, fault in sorted(enumerate(self._plan.faults), key=lambda item: item[1].at_s):
            await asyncio.sleep(max(0.0, self._held_from_s + fault.at_s - time.monotonic()))
            for number, life in lives.items():
                if self._plan.is_hit(number, place):
                    life.hit(fault.for_s)

    @staticmethod
    def _raise_mistakes(tasks: Sequence[asyncio.Task[None]]) -> None:
        """A mistake of this tool is none of the server's: it must not pass for a refusal."""
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory_bytes() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
