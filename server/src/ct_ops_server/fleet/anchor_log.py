"""Keeps what agents say about the server CAs they believe, without making any frame slower.

``note`` only changes memory; a task writes what has gathered, once a second at most, in one transaction. What was
written by this process is not written again when the same agent comes back and says the same. During an outage of
the store the notes wait: one an agent, so there is an end to them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from itertools import islice
from typing import Protocol

from ct_ops_server.fleet.following import Believed, Following
from ct_ops_server.fleet.ports import StoreError

_log = logging.getLogger("ct_ops_server.server_ca")
_AT_ONCE = 1_000
_REMEMBERED = 100_000


class AnchorStore(Protocol):
    """Where reports are kept: ``store.anchors``."""

    async def record(self, reports: Mapping[str, Believed]) -> None:
        """Store what agents reported. Raises ``StoreError``."""

    async def following(self, *any_of: bytes) -> Following:
        """Return how much of the fleet believes one of these server CAs (SHA-256). Raises ``StoreError``."""


class AnchorLog:
    """Gathers reports and records them in groups."""

    def __init__(self, store: AnchorStore, *, pause_s: float = 1.0) -> None:
        self._store = store
        self._pause_s = pause_s
        self._waiting: dict[str, Believed] = {}
        self._written: dict[str, Believed] = {}
        self._arrival = asyncio.Event()

    def note(self, agent_id: str, believed: Believed) -> None:
        """Remember to record this. Never waits, never fails."""
        if self._waiting.get(agent_id, self._written.get(agent_id)) != believed:
            self._waiting[agent_id] = believed
            self._arrival.set()

    async def run(self) -> None:
        """Record what is noted, until cancelled."""
        while True:
            await self._arrival.wait()
            await self.flush()
            await asyncio.sleep(self._pause_s)

    async def flush(self) -> None:
        """Record what is waiting; what a store does not take waits on."""
        while self._waiting:
            reports = dict(islice(self._waiting.items(), _AT_ONCE))
            try:
                await self._store.record(reports)
            except StoreError as error:
                _log.warning("what %d agents believe is not recorded yet: %s", len(self._waiting), error)
                return
            self._settle(reports)
        self._arrival.clear()

    def _settle(self, reports: Mapping[str, Believed]) -> None:
        if len(self._written) > _REMEMBERED:
            self._written.clear()
        for agent_id, believed in reports.items():
            self._written[agent_id] = believed
            if self._waiting.get(agent_id) == believed:
                del self._waiting[agent_id]
