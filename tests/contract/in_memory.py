"""The stores in memory, put together as one store under test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from contract.values import StoreUnderTest
from ct_ops_server.store.replaying import Event
from fakes import memory_replay
from fakes.memory_anchors import MemoryAnchors
from fakes.memory_checks import MemoryChecks
from fakes.memory_deliveries import MemoryDeliveries
from fakes.memory_hurry import MemoryHurry
from fakes.memory_server_cas import MemoryServerCas
from fakes.memory_store import MemoryStore
from fakes.memory_trust import MemoryTrust


class InMemory:
    """All of them, beside one store that knows agents."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.deliveries = MemoryDeliveries(self.store.is_current)
        self.trust = MemoryTrust(self.store)
        self.anchors = MemoryAnchors(self.store)
        self.server_cas = MemoryServerCas(self.store)
        self._hurry = MemoryHurry(self.store, self.trust, self.anchors)
        self._checks = MemoryChecks(self.store)

    def under_test(self) -> StoreUnderTest:
        """Return what the contract suites ask."""
        memory = self.store
        return StoreUnderTest(
            streams=memory,
            presence=memory,
            agents=memory,
            clones=memory,
            successions=memory,
            enrolment=memory,
            tokens=memory,
            refusals=memory,
            carried=memory,
            endings=memory,
            checks=self._checks,
            deliver_check_results=self._checks.deliver,
            deliveries=self.deliveries,
            samples=self.deliveries,
            trust=self.trust,
            anchors=self.anchors,
            server_cas=self.server_cas,
            hurries=self._hurry,
            hurry_later=self._hurry_later,
            replay=self._replay,
            age_lease=memory.age_lease,
        )

    async def _hurry_later(self, span: timedelta) -> None:
        self._hurry.later(span)

    async def _replay(self, events: Sequence[Event]) -> None:
        memory_replay.replay(self.store, events)
