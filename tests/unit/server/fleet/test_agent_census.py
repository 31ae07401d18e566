"""The census: every status has a figure, and an outage ends nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ct_ops_server.fleet.agent_census import AgentCensus
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.ports import StoreUnavailableError
from fakes.memory_store import MemoryStore


class Counted(MemoryStore):
    """Agents whose counts a test lays out; None: an outage."""

    def __init__(self, *outcomes: Mapping[AgentStatus, int] | None) -> None:
        super().__init__()
        self.outcomes = list(outcomes)
        self.asked_for_all = asyncio.Event()

    async def count_by_status(self) -> Mapping[AgentStatus, int]:
        if not self.outcomes:
            self.asked_for_all.set()
            await asyncio.Event().wait()
        outcome = self.outcomes.pop(0)
        if outcome is None:
            raise StoreUnavailableError("the database does not answer")
        return outcome


async def test_a_status_that_no_agent_has_is_zero_and_an_outage_is_outlived() -> None:
    """The last approval must bring the figure of those who wait down; an outage is no figure at all."""
    store = Counted({AgentStatus.PENDING: 2}, None, {AgentStatus.ACTIVE: 3})
    seen: list[Mapping[AgentStatus, int]] = []
    running = asyncio.create_task(AgentCensus(store, observe=seen.append, every_s=0).run())
    try:
        async with asyncio.timeout(30):
            await store.asked_for_all.wait()
    finally:
        running.cancel()
        await asyncio.wait([running])

    assert [
        {AgentStatus.PENDING: 2, AgentStatus.ACTIVE: 0, AgentStatus.REVOKED: 0, AgentStatus.QUARANTINED: 0},
        {AgentStatus.PENDING: 0, AgentStatus.ACTIVE: 3, AgentStatus.REVOKED: 0, AgentStatus.QUARANTINED: 0},
    ] == seen
