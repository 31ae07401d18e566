"""The runner: keeps the checks of a server going.

* A list replaces the one before it: what is gone or changed stops before `take` returns, also when the
  list is empty, and no result of it comes afterwards.
* A run has a thread and a deadline of its own. Whatever hangs is left behind: its slot is free again at the
  deadline, and until its thread has ended the check says so instead of starting another.
* At most `SLOTS` run at once; who waits for a slot is the later for it, its grid stays.
* A run always ends in one result: a type or a configuration that this agent cannot work with, and also a
  defect of the agent's own, are an ``error`` with a sentence.

Results go to `Results.put`, which keeps them; whether there is a connection is no matter here.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterable

from ct_ops_agent.apart import Apart
from ct_ops_agent.checks.attempt import Attempt
from ct_ops_agent.checks.kinds import Prepared, UnusableCheckError, prepare
from ct_ops_agent.checks.plan import Planned, compare
from ct_ops_agent.checks.verdict import Verdict, undone
from ct_ops_agent.clock import Clock
from ct_ops_agent.errors import AgentError
from ct_ops_agent.ticks import next_tick
from ct_ops_agent.work import CheckDefinition, CheckResult, Results

_log = logging.getLogger(__name__)

SLOTS = 10
_GRACE_S = 0.25
"""A probe that keeps its time says more than "no answer"."""


class CheckRunner:
    """Runs exactly the checks of the last list."""

    def __init__(
        self,
        results: Results,
        clock: Clock,
        random: Callable[[], float],
        *,
        slots: int = SLOTS,
        prepare: Callable[[CheckDefinition], Prepared] = prepare,
    ) -> None:
        self._results = results
        self._clock = clock
        self._random = random
        self._slots = asyncio.Semaphore(slots)
        self._prepare = prepare
        self._planned: dict[str, Planned] = {}
        self._living: dict[str, asyncio.Task[None]] = {}

    @property
    def planned(self) -> tuple[Planned, ...]:
        """What runs now."""
        return tuple(self._planned.values())

    def resume(self, kept: Iterable[Planned]) -> None:
        """Go on with checks of before a restart, each at its next tick."""
        for planned in kept:
            self._start(planned, is_new=False)

    def take(self, definitions: Iterable[CheckDefinition]) -> bool:
        """Run exactly these; return whether anything changed."""
        changes = compare(self._planned, definitions)
        for check_id in changes.stop:
            self._stop(check_id)
        for definition in changes.start:
            self._start(Planned(definition, since=self._clock.wall()), is_new=True)
        return bool(changes)

    async def stop(self) -> None:
        """Stop them all."""
        ending = list(self._living.values())
        for check_id in list(self._planned):
            self._stop(check_id)
        await asyncio.gather(*ending, return_exceptions=True)

    def _start(self, planned: Planned, *, is_new: bool) -> None:
        check_id = planned.definition.check_id
        self._planned[check_id] = planned
        self._living[check_id] = asyncio.create_task(
            self._live(planned, is_new=is_new), name=f"check {check_id}"
        )

    def _stop(self, check_id: str) -> None:
        del self._planned[check_id]
        self._living.pop(check_id).cancel()

    async def _live(self, planned: Planned, *, is_new: bool) -> None:
        run = Run(planned.definition, self._prepare, self._clock)
        # The wall clock counts once, over a restart (and may have been set back meanwhile). From here on the
        # monotonic one does.
        begin = self._clock.monotonic() - max(self._clock.wall() - planned.since, 0.0)
        if is_new:
            await self._run(run)
        while True:
            elapsed = self._clock.monotonic() - begin
            await self._wait_until(begin + next_tick(elapsed, planned.interval_s, self._random()))
            await self._run(run)

    async def _wait_until(self, moment: float) -> None:
        while (left := moment - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)

    async def _run(self, run: Run) -> None:
        async with self._slots:
            result = await run.once()
        try:
            await self._results.put(result)
        except AgentError as error:
            _log.warning("a result of check %s is lost: %s", result.check_id, error)
        except Exception:  # noqa: BLE001  a check that ended over a result would never run again
            _log.exception("a result of check %s is lost", result.check_id)


class Run:
    """One check, run again and again, never twice at once."""

    def __init__(
        self, definition: CheckDefinition, prepare: Callable[[CheckDefinition], Prepared], clock: Clock
    ) -> None:
        self._definition = definition
        self._prepare = prepare
        self._clock = clock
        self._last: Apart[Verdict] | None = None

    async def once(self) -> CheckResult:
        """Run it, however that goes."""
        ran_at, began = self._clock.wall(), self._clock.monotonic()
        verdict = await self._verdict()
        return CheckResult(
            check_id=self._definition.check_id,
            status=verdict.status,
            output=verdict.output,
            duration_ms=round((self._clock.monotonic() - began) * 1000),
            ran_at_ms=round(ran_at * 1000),
        )

    async def _verdict(self) -> Verdict:
        try:
            prepared = self._prepare(self._definition)
        except UnusableCheckError as error:
            return undone(str(error))
        if self._last is not None and self._last.is_alive:
            return undone(
                "the run before this one still hangs on the host; it is not started again beside it"
            )
        try:
            return await self._probe(prepared)
        except Exception as error:  # noqa: BLE001  one check's defect is not another's; it is logged below
            _log.error("check %s failed: %s", self._definition.check_id, _where(error))
            return undone(f"the check failed with a defect of the agent ({type(error).__name__})")

    async def _probe(self, prepared: Prepared) -> Verdict:
        attempt = Attempt(prepared.timeout_s)
        self._last = Apart(f"check {self._definition.check_id}", lambda: prepared.probe(attempt))
        try:
            return await self._last.wait(prepared.timeout_s + _GRACE_S)
        except TimeoutError:
            return prepared.overdue
        finally:
            attempt.give_up()


def _where(error: Exception) -> str:
    """Return kind and place of a defect, without its text, which may hold what a server or a peer sent."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
