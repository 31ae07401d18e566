"""Stores that are taken back in time: the one in memory, and databases by the copies that ``db restore`` is made of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from contract.in_memory import InMemory
from contract.values import StoreUnderTest
from ct_ops_server.authority.server_ca_lineage import Lineage
from ct_ops_server.store.database_url import PostgresTarget, parse_database_url
from ct_ops_server.store.dump import read_dump
from ct_ops_server.store.replaying import Event
from ct_ops_server.store.settling import Terms, settle
from ct_ops_server.store.snapshot import Snapshot, take_snapshot
from fakes.memory_anchors import Reports
from fakes.memory_deliveries import MemoryState
from fakes.memory_replay import replay
from fakes.memory_store import StoreState
from fakes.memory_trust import TrustRows

Open = Callable[[str], AbstractAsyncContextManager[StoreUnderTest]]


class Timeline(Protocol):
    """A store that can be backed up, and restored."""

    def opened(self) -> AbstractAsyncContextManager[StoreUnderTest]:
        """Open it as it is now."""

    async def back_up(self) -> None:
        """Make a backup, also while it is open."""

    async def restore(self, since: Sequence[Event] = ()) -> None:
        """Go back to the backup, and be told what was decided since; nobody has it open."""


class MemoryTimeline:
    """The stores in memory."""

    def __init__(self) -> None:
        self._parts = InMemory()
        self._backup: tuple[StoreState, MemoryState, TrustRows, Reports, Lineage | None] | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[StoreUnderTest]:
        yield self._parts.under_test()

    async def back_up(self) -> None:
        parts = self._parts
        self._backup = (
            parts.store.snapshot(),
            parts.deliveries.snapshot(),
            parts.trust.snapshot(),
            parts.anchors.snapshot(),
            parts.server_cas.snapshot(),
        )

    async def restore(self, since: Sequence[Event] = ()) -> None:
        assert self._backup is not None
        store, deliveries, trust, anchors, server_cas = self._backup
        self._parts.store.restore(store)
        self._parts.store.settle()
        replay(self._parts.store, since)
        self._parts.deliveries.restore(deliveries)
        self._parts.trust.restore(trust)
        self._parts.anchors.restore(anchors)
        self._parts.server_cas.restore(server_cas)


class DatabaseTimeline:
    """A database. That of SQLite is, once it was restored, another file."""

    def __init__(self, url: str, copy: Path, open_: Open) -> None:
        self._url = url
        self._copy = copy
        self._open = open_
        self._snapshot: Snapshot | None = None

    def opened(self) -> AbstractAsyncContextManager[StoreUnderTest]:
        return self._open(self._url)

    async def back_up(self) -> None:
        self._snapshot = await asyncio.to_thread(take_snapshot, self._url, self._copy)

    async def restore(self, since: Sequence[Event] = ()) -> None:
        assert self._snapshot is not None
        target = parse_database_url(self._url)
        if isinstance(target, PostgresTarget):
            await asyncio.to_thread(read_dump, target, self._copy)
        else:
            self._url = f"sqlite:///{self._copy}"
        terms = Terms(0, self._snapshot.schema, self._snapshot.counts, since)
        await settle(self._url, terms)


def path_with(tools: Path) -> str:
    """Return a PATH by which PostgreSQL's tools are found."""
    return f"{tools}:{os.defpath}"
