"""The push bus of a simulated server: a hint makes a topic caught up with, and nothing does without one.

The real one (``fleet.bus``) also looks every few seconds by itself. In five years those are millions of looks at
nothing: here whoever looks after a server hints at everything (`Serving.look_after`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from ct_ops_server.fleet.bus import Bus


class SimulatedBus(Bus):
    """Topics of one simulated process."""

    def __init__(self, keep: Callable[[asyncio.Task[None]], None]) -> None:
        super().__init__()
        self._keep = keep
        self._topics: dict[str, Callable[[], Awaitable[None]]] = {}
        self._running: set[str] = set()
        self._again: set[str] = set()
        self._is_over = False

    def subscribe(self, topic: str, catch_up: Callable[[], Awaitable[None]], *, every: timedelta) -> None:
        """Have ``catch_up`` run at every hint for ``topic``."""
        del every
        self._topics[topic] = catch_up

    def hint(self, topic: str) -> None:
        """Something about ``topic`` was committed."""
        if self._is_over or topic not in self._topics:
            return
        if topic in self._running:
            self._again.add(topic)
            return
        self._running.add(topic)
        self._keep(asyncio.get_running_loop().create_task(self._run_topic(topic), name=f"bus: {topic}"))

    def hint_all(self) -> None:
        """Hints may have been missed."""
        for topic in self._topics:
            self.hint(topic)

    def end(self) -> None:
        """Be the bus of a process that is gone."""
        self._is_over = True

    async def _run_topic(self, topic: str) -> None:
        try:
            await self._topics[topic]()
        finally:
            self._running.discard(topic)
        if topic in self._again:
            self._again.discard(topic)
            self.hint(topic)
