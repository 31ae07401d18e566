"""Counts the agents by what operators decided about them, for metrics: the same figure on every server of a database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.ports import AgentStore, StoreError

_COUNT_EVERY_S = 30.0

_log = logging.getLogger("ct_ops_server.agents")


class AgentCensus:
    """Counts now and then, for as long as it runs; nobody who waits for approval is overlooked."""

    def __init__(
        self,
        store: AgentStore,
        *,
        observe: Callable[[Mapping[AgentStatus, int]], None],
        every_s: float = _COUNT_EVERY_S,
    ) -> None:
        """Prepare.

        Args:
            store: who knows.
            observe: told how many agents have each status, all of which are there.
            every_s: how often, in seconds.
        """
        self._store = store
        self._observe = observe
        self._every_s = every_s

    async def run(self) -> None:
        """Count, rest, count again. During an outage of the database the latest figures stay."""
        while True:
            try:
                counted = await self._store.count_by_status()
            except StoreError as error:
                _log.debug("nobody knows how many agents there are: %s", error)
            else:
                self._observe({status: counted.get(status, 0) for status in AgentStatus})
            await asyncio.sleep(self._every_s)
