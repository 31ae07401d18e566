"""What tests of the agent's work share: results that are remembered, and time that a test moves."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from ct_ops_agent.clock import Clock
from ct_ops_agent.errors import AgentError
from ct_ops_agent.work import InventoryChunk, Result


@dataclass
class KeptResults:
    """Fulfils `work.Results`."""

    kept: list[Result] = field(default_factory=list)
    broken: AgentError | None = None
    """Raised instead of keeping, when set."""

    def __post_init__(self) -> None:
        """Make what waiting needs."""
        self._changed = asyncio.Event()

    async def put(self, result: Result) -> None:
        """Remember it."""
        if self.broken:
            raise self.broken
        self.kept.append(result)
        self._changed.set()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when something holds; it is looked at after each result."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def several(self, number: int) -> list[Result]:
        """Return the results when there are that many."""
        await self.wait_for(lambda: len(self.kept) >= number)
        return self.kept


class MovedTime:
    """A clock that stands still until a test moves it. Both of its clocks, unless one is set."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self.now = 0.0
        self.offset = wall
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.clock = Clock(wall=lambda: self.now + self.offset, monotonic=lambda: self.now, sleep=self._sleep)

    @property
    def next_waking(self) -> float | None:
        """When the first of those who sleep wakes; ``None``: nobody sleeps."""
        self._forget_the_gone()
        return self._sleepers[0][0] if self._sleepers else None

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking everybody in order and letting each do what comes of it."""
        end = self.now + seconds
        await settle()
        while (waking := self.next_waking) is not None and waking <= end:
            self.now = max(self.now, waking)
            heapq.heappop(self._sleepers)[2].set_result(None)
            await settle()
        self.now = end

    async def _sleep(self, seconds: float) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), sleeper))
        await sleeper

    def _forget_the_gone(self) -> None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)


async def settle() -> None:
    """Let everything on the loop go on as far as it can without threads and time."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what threads and peers do, who tell nobody."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@dataclass
class FakeLink:
    """Fulfils `work.Link` from memory."""

    features: tuple[str, ...] = ("definitions", "delivery")
    scans: list[list[InventoryChunk]] = field(default_factory=list)
    """What each upload brought, also those that broke."""

    breaks: list[AgentError] = field(default_factory=list)
    """Raised one by one instead of an acknowledgement."""

    async def upload_inventory(self, chunks: Iterable[InventoryChunk]) -> int:
        """Take a scan."""
        scan: list[InventoryChunk] = []
        self.scans.append(scan)
        for chunk in chunks:
            scan.append(chunk)
            await asyncio.sleep(0)
            if self.breaks:
                raise self.breaks.pop(0)
        return sum(len(chunk.packages) for chunk in scan)
