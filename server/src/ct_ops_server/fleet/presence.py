"""Keeps "online" true when streams cannot: after a crash, a power cut, a lost network.

A stream that ends marks its own agent offline. What ends without saying so is noticed by *leases*: every
worker renews one, and an agent whose worker's lease is stale, and which no other worker has taken over,
is offline. Half-open connections are the transport's business: its PINGs end them.

After a start of ours, and after an outage of the store, agents need time to come back before their
absence means anything, so the sweep then waits two heartbeat intervals. All comparisons are made by the
database's clock (rule 18).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from ct_ops_server.fleet.ports import PresenceStore, StoreError

_log = logging.getLogger("ct_ops_server.presence")


@dataclass(frozen=True)
class PresencePolicy:
    """How long absence may last before it counts."""

    renew_every: timedelta = timedelta(seconds=5)
    lease_timeout: timedelta = timedelta(seconds=15)
    grace: timedelta = timedelta(seconds=60)
    """Two heartbeat intervals: how long the sweep waits after a start or an outage."""


class Presence:
    """This worker's lease, and the sweep."""

    def __init__(
        self,
        store: PresenceStore,
        *,
        worker_id: str,
        policy: PresencePolicy,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._policy = policy
        self._monotonic_s = monotonic_s
        self._quiet_until_s = monotonic_s() + policy.grace.total_seconds()

    async def start(self) -> None:
        """Take the first lease.

        Raises:
            StoreError: the store did not answer.
        """
        await self._store.renew_lease(self._worker_id)

    async def run(self) -> None:
        """Renew and sweep until cancelled. An outage of the store is waited out."""
        while True:
            await asyncio.sleep(self._policy.renew_every.total_seconds())
            await self.tick()

    async def tick(self) -> None:
        """Renew the lease once; sweep when absence means something."""
        try:
            await self._store.renew_lease(self._worker_id)
            if self._monotonic_s() >= self._quiet_until_s:
                await self._sweep()
        except StoreError as error:
            self._quiet_until_s = self._monotonic_s() + self._policy.grace.total_seconds()
            _log.warning("presence is not kept for now: %s", error)

    async def stop(self) -> None:
        """End the lease; our agents are offline from now on. An unreachable store cannot be told."""
        try:
            await self._store.drop_lease(self._worker_id)
        except StoreError as error:
            _log.warning("the lease of this worker stays until it is stale: %s", error)

    async def _sweep(self) -> None:
        gone = await self._store.sweep(lease_timeout=self._policy.lease_timeout)
        if gone:
            _log.info("%d agents did not come back and are offline: %s", len(gone), ", ".join(gone[:10]))
