"""The processes of a run: starts them, lets them begin together, adds up what they count, and ends them.

One process of Python drives some thousands of agents; ``--processes`` shares a plan among several. They hold back until every
process has started its agents, so that what is measured is measured under the whole load.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from ct_ops_loadtest.figures import Tally, live_line
from ct_ops_loadtest.plan import Plan, Target
from ct_ops_loadtest.worker import Order, Report

_LIMIT = 1 << 24
_END_S = 20.0
_LINE_EVERY_S = 5.0


class CrewError(Exception):
    """A process of the tool itself broke. ``str()`` is a sentence."""


@dataclass
class _Member:
    process: asyncio.subprocess.Process
    report: Report = field(default_factory=Report)

    def say(self, word: bytes) -> None:
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(word)


class Crew:
    """The processes of one run."""

    def __init__(self, members: Sequence[_Member]) -> None:
        self._members = members
        self._news = asyncio.Condition()

    @property
    def tally(self) -> Tally:
        """What all have counted so far."""
        total = Tally()
        for member in self._members:
            total.merge(member.report.tally)
        return total

    async def settled(self) -> None:
        """Wait until every agent was served or refused once."""
        await self._until(lambda report: report.settled)

    def hold(self) -> None:
        """Let everybody begin what is measured."""
        self._say(b"hold\n")

    async def stop(self) -> None:
        """End the run; the tally is complete afterwards."""
        self._say(b"stop\n")
        await self._until(lambda report: report.ended)

    async def listen(self, member: _Member) -> None:
        """Take one process's reports. Raises ``CrewError`` when it ends before its time."""
        assert member.process.stdout is not None
        while line := await member.process.stdout.readline():
            member.report = msgspec.json.decode(line, type=Report)
            async with self._news:
                self._news.notify_all()
        if not member.report.ended:
            async with self._news:
                self._news.notify_all()
            raise CrewError("a process of the load test broke off; what it said is above")

    async def _until(self, condition: Callable[[Report], bool]) -> None:
        async with self._news:
            await self._news.wait_for(lambda: all(condition(member.report) for member in self._members))

    def _say(self, word: bytes) -> None:
        for member in self._members:
            member.say(word)


@asynccontextmanager
async def crew(target: Target, plan: Plan, processes: int) -> AsyncIterator[Crew]:
    """Run the processes for as long as the block lasts; none outlives it.

    Raises:
        CrewError: (as part of a group) one of them broke.
    """
    members = [await _started(Order(target, plan, place, processes)) for place in range(processes)]
    made = Crew(members)
    try:
        async with asyncio.TaskGroup() as group:
            listening = [group.create_task(made.listen(member)) for member in members]
            yield made
            for task in listening:
                task.cancel()
    finally:
        for member in members:
            await _ended(member.process)


async def _started(order: Order) -> _Member:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ct_ops_loadtest.worker",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LIMIT,
    )  # fmt: skip
    member = _Member(process)
    member.say(msgspec.json.encode(order) + b"\n")
    return member


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def run(
    target: Target, plan: Plan, processes: int, *, stop: asyncio.Event, show: Callable[[str], None]
) -> Tally:
    """Carry out a plan; ``stop`` ends it early, and quickly.

    Raises:
        CrewError: (as part of a group) a process of the tool broke.
    """
    async with crew(target, plan, processes) as members:
        showing = asyncio.create_task(_show(members, show))
        stopping = asyncio.create_task(stop.wait())
        settling = asyncio.create_task(members.settled())
        try:
            await asyncio.wait((stopping, settling), return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                show(f"all agents have started: {members.tally.connected} connected")
                members.hold()
                await asyncio.wait((stopping,), timeout=plan.duration_s or None)
            await members.stop()
        finally:
            for task in (showing, stopping, settling):
                task.cancel()
        return members.tally


async def _show(members: Crew, show: Callable[[str], None]) -> None:
    began_s, failed = time.monotonic(), 0
    while True:
        await asyncio.sleep(_LINE_EVERY_S)
        tally = members.tally
        failed, before = sum(tally.failures.values()), failed
        show(live_line(time.monotonic() - began_s, tally, recent_failures=failed - before))
