"""Counts who is degraded, for metrics: the same figure on every server of a database."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping

from ct_ops_server.fleet.health import HealthDesk, Reason, ReasonCode
from ct_ops_server.fleet.ports import StoreError

COUNT_EVERY_S = 30.0

_log = logging.getLogger("ct_ops_server.health")


class HealthWatch:
    """Looks now and then, for as long as it runs."""

    def __init__(self, desk: HealthDesk, *, observe: Callable[[int, Mapping[ReasonCode, int]], None]) -> None:
        """Prepare a watch.

        Args:
            desk: who knows.
            observe: told how many agents are degraded, and how many for each reason.
        """
        self._desk = desk
        self._observe = observe

    async def run(self) -> None:
        """Count, rest, count again. During an outage of the database the latest figure stays."""
        while True:
            try:
                await self.count()
            except StoreError as error:
                _log.debug("nobody knows who is degraded: %s", error)
            await asyncio.sleep(COUNT_EVERY_S)

    async def count(self) -> None:
        """Count once.

        Raises:
            StoreError: the store did not answer.
        """
        degraded = await self._desk.degraded()
        self._observe(len(degraded), agents_by_reason(degraded))


def agents_by_reason(degraded: Mapping[str, tuple[Reason, ...]]) -> Mapping[ReasonCode, int]:
    """Return how many agents each reason applies to; every reason is there."""
    counted = Counter(code for why in degraded.values() for code in {reason.code for reason in why})
    return {code: counted[code] for code in ReasonCode}
