"""The push bus: what a command changed reaches whoever has to act, on every process, at once.

Whoever acts on rows of the database (end a revoked agent's connections, hand a task to a live stream)
subscribes to a *topic* with a ``catch_up`` that reads what is still undone and does it. A hint makes it
run now. Hints may be lost, doubled or late: nothing depends on them but speed, because every topic is
also caught up with at its own interval, after a listener came back, and at the start (rule 20).

Hints come from the command's own process, and from other processes over PostgreSQL's NOTIFY
(``store.listening``). Nothing is ever carried in a hint: the rows are the truth.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

from ct_ops_server.fleet.ports import StoreError

_log = logging.getLogger("ct_ops_server.bus")


@dataclass(eq=False)
class _Subscription:
    topic: str
    catch_up: Callable[[], Awaitable[None]]
    every: timedelta
    hinted: asyncio.Event = field(default_factory=asyncio.Event)
    failing: bool = False


class Bus:
    """Topics of one process."""

    def __init__(self) -> None:
        self._subscriptions: list[_Subscription] = []

    def subscribe(self, topic: str, catch_up: Callable[[], Awaitable[None]], *, every: timedelta) -> None:
        """Have ``catch_up`` run at every hint for ``topic``, and at least every so often.

        ``catch_up`` may raise StoreError: it is run again at its interval. Runs never overlap.
        """
        self._subscriptions.append(_Subscription(topic, catch_up, every))

    def hint(self, topic: str) -> None:
        """Something about ``topic`` was committed."""
        for subscription in self._subscriptions:
            if subscription.topic == topic:
                subscription.hinted.set()

    def hint_all(self) -> None:
        """Hints may have been missed."""
        for subscription in self._subscriptions:
            subscription.hinted.set()

    async def run(self) -> None:
        """Serve the subscriptions until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for subscription in self._subscriptions:
                tasks.create_task(self._serve(subscription), name=f"bus: {subscription.topic}")

    async def _serve(self, subscription: _Subscription) -> None:
        while True:
            subscription.hinted.clear()  # before reading: a hint that comes meanwhile counts again
            await self._catch_up(subscription)
            try:
                async with asyncio.timeout(subscription.every.total_seconds()):
                    await subscription.hinted.wait()
            except TimeoutError:
                continue

    async def _catch_up(self, subscription: _Subscription) -> None:
        try:
            await subscription.catch_up()
        except StoreError as error:
            if not subscription.failing:
                _log.warning("%s cannot be caught up with for now: %s", subscription.topic, error)
            subscription.failing = True
        else:
            subscription.failing = False
