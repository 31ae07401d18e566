"""One collector's life: when its tick comes, run it in a thread of its own under a deadline.

Whatever it does, only its own data suffers:

=====================  ================================================================================
it …                   what happens
=====================  ================================================================================
raises                 the run failed; its error is its problem
hangs                  left behind at the deadline; not started again until that thread has returned
floods                 cut off (`readings`)
leaves threads behind  not run while there are too many of them: every run would leave more
takes too long often   its ticks are missed, not queued
=====================  ================================================================================

A problem is logged when it appears, when it changes and when it is over, not at every run; so is what the host
does not let it see.

Every run that came to its end delivers ``NAME.run_seconds`` as well, how long it took: so the server can tell a
collector that has nothing to say from one that does not run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from ct_ops_agent.apart import Apart
from ct_ops_agent.clock import Clock
from ct_ops_agent.collector import AnyCollector, CollectorError
from ct_ops_agent.gathering.health import Health
from ct_ops_agent.gathering.readings import Intake, Taken, describe
from ct_ops_agent.gathering.thread_watch import ThreadWatch
from ct_ops_agent.samples import TakesSamples, TimedSample
from ct_ops_agent.ticks import next_tick
from ct_ops_proto.series import series_text

_log = logging.getLogger(__name__)

MOST_THREADS = 8
"""Left behind by one collector and still alive."""


@dataclass(frozen=True)
class Plan:
    """A collector that is to run."""

    name: str
    make: Callable[[], AnyCollector]
    interval_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class _Run:
    """What happened in the thread."""

    taken: Taken
    cpu_s: float


class Course:
    """The runs of one collector."""

    def __init__(
        self,
        plan: Plan,
        collector: AnyCollector,
        *,
        sink: TakesSamples,
        clock: Clock,
        random: Callable[[], float],
        threads: ThreadWatch | None = None,
    ) -> None:
        """Prepare.

        Args:
            plan: how often, how long.
            collector: what runs.
            sink: where samples go.
            clock: of this host.
            random: uniform in [0, 1), for the jitter of ticks.
            threads: watches the runs of all collectors.
        """
        self.plan = plan
        self.health = Health()
        self._collector = collector
        self._sink = sink
        self._clock = clock
        self._random = random
        self._intake = Intake(plan.name)
        self._last: Apart[_Run] | None = None
        self._threads = threads or ThreadWatch()
        self._left_behind: set[threading.Thread] = set()

    async def run(self) -> NoReturn:
        """Run on every tick until cancelled."""
        began_s = self._clock.monotonic()
        while True:
            await self.once()
            elapsed_s = self._clock.monotonic() - began_s
            interval_s = self.health.interval_s(self.plan.interval_s)
            await self._clock.sleep(next_tick(elapsed_s, interval_s, self._random()) - elapsed_s)

    async def once(self) -> None:
        """Run now and hand on what came of it. Raises nothing: whatever happens is this collector's problem."""
        at_unix = self._clock.wall()
        try:
            health = await self._attempt(self.health, at_unix)
        except CollectorError as error:
            health = self.health.after_failure(describe_own(error), at_unix=at_unix)
        except TimeoutError:
            text = f"it did not come back within {self.plan.timeout_s:g} s"
            health = self.health.after_failure(text, at_unix=at_unix)
        except Exception as error:  # noqa: BLE001  the wall behind which the other collectors live
            health = self.health.after_failure(f"the run failed: {describe(error)}", at_unix=at_unix)
        self._note(health)

    async def _attempt(self, before: Health, at_unix: float) -> Health:
        """Run in a thread, hand the samples on, and return the health after it."""
        if self._last is not None and self._last.is_alive:
            raise CollectorError("an earlier run still hangs; no second one is started beside it")
        self._left_behind = {one for one in self._left_behind if one.is_alive()}
        if (count := len(self._left_behind)) > MOST_THREADS:
            raise CollectorError(f"it has left {count} threads behind; it is run again when they have ended")
        started_s, before_it = self._clock.monotonic(), self._threads.begin()
        try:
            self._last = Apart(f"collector {self.plan.name}", lambda: self._collect(at_unix))
            run = await self._last.wait(self.plan.timeout_s)
        finally:
            self._left_behind |= self._threads.end(before_it)
        health = before.after_run(
            at_unix=at_unix,
            duration_s=self._clock.monotonic() - started_s,
            cpu_s=run.cpu_s,
            samples=len(run.taken.samples),
            problem=run.taken.problem,
            missing=run.taken.missing,
        )
        await self._sink.put_samples((*run.taken.samples, self._duration(health)))
        return health

    def _duration(self, health: Health) -> TimedSample:
        assert health.ran_at_unix is not None
        series = series_text(f"{self.plan.name}.run_seconds", {})
        return TimedSample(series, round(health.ran_at_unix * 1000), health.duration_s, "s")

    def _collect(self, at_unix: float) -> _Run:
        """Run the collector, in its thread."""
        cpu_s = time.thread_time()
        try:
            taken = self._intake.take(self._collector.collect(), at_unix=at_unix)
        except CollectorError:
            raise
        except BaseException as error:
            # SystemExit and KeyboardInterrupt too: a collector is not asked whether the agent may live.
            raise CollectorError(f"it raised {describe(error)}") from error
        return _Run(taken, time.thread_time() - cpu_s)

    def _note(self, health: Health) -> None:
        before, self.health = self.health, health
        name = self.plan.name
        if health.problem and health.problem != before.problem:
            _log.warning("collector %s: %s", name, health.problem)
        elif before.problem and not health.problem:
            _log.info("collector %s works again", name)
        if health.missing and health.missing != before.missing and not health.problem:
            _log.info("collector %s does without %s", name, health.missing)


def describe_own(error: CollectorError) -> str:
    """Return what a collector says of its own failure."""
    return describe(error).removeprefix(f"{type(error).__name__}: ")
