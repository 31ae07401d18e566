"""Hints between processes, by PostgreSQL's NOTIFY; and what becomes of them when connections die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.listening import Listener, notify
from ct_ops_server.store.opening import Store, open_store


class Ear:
    """Writes down what was heard."""

    def __init__(self) -> None:
        self.topics: asyncio.Queue[str] = asyncio.Queue()

    def hint(self, topic: str) -> None:
        self.topics.put_nowait(topic)

    def missed(self) -> None:
        self.topics.put_nowait("(listening)")

    async def next(self) -> str:
        async with asyncio.timeout(20):
            return await self.topics.get()


@asynccontextmanager
async def listening(store: Store) -> AsyncIterator[Ear]:
    """Run a listener until the block ends."""
    ear = Ear()
    listener = Listener(store.database, on_hint=ear.hint, on_missed=ear.missed)
    task = asyncio.create_task(listener.run())
    try:
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def hint(store: Store, topic: str, *, fail: bool = False) -> None:
    """Notify in the transaction of a command."""

    async def command(connection: AsyncConnection) -> None:
        await notify(connection, topic)
        if fail:
            raise LookupError(topic)

    await asyncio.gather(store.writer.run(command), return_exceptions=True)


async def test_a_hint_of_another_process_is_heard_when_its_transaction_is_committed(
    postgres_url: str,
) -> None:
    """What is rolled back was never hinted at; beginning to listen means that hints were missed."""
    async with open_store(postgres_url) as ours, open_store(postgres_url) as theirs, listening(ours) as ear:
        assert "(listening)" == await ear.next()
        await hint(theirs, "undone", fail=True)
        await hint(theirs, "endings")
        assert "endings" == await ear.next()


async def test_a_listener_whose_connection_is_cut_listens_again(postgres_url: str) -> None:
    """And says that it has missed hints, so that everything is caught up with."""
    async with open_store(postgres_url) as store, listening(store) as ear:
        assert "(listening)" == await ear.next()
        await cut_listeners(postgres_url)
        assert "(listening)" == await ear.next()
        await hint(store, "endings")
        assert "endings" == await ear.next()


@pytest.mark.parametrize(
    "error",
    [asyncpg.ConnectionDoesNotExistError("gone"), asyncpg.InterfaceError("connection is closed")],
    ids=["cut while it pings", "cut before it pings"],
)
async def test_a_listener_whose_driver_fails_listens_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The driver's own errors are outages too: a process must not stay deaf for ever."""
    errors, execute = [error], asyncpg.Connection.execute

    async def failing_once(connection: asyncpg.Connection[Any], query: str, *values: str) -> str:
        if errors and "pg_notify" in query:
            raise errors.pop()
        return await execute(connection, query, *values)

    async with open_store(postgres_url) as store:
        monkeypatch.setattr(asyncpg.Connection, "execute", failing_once)
        async with listening(store) as ear:
            assert ["(listening)"] * 2 == [await ear.next() for _ in range(2)]
            await hint(store, "endings")
            assert "endings" == await ear.next()


async def cut_listeners(url: str) -> None:
    """End the sessions that listen, as a restarted pooler or a firewall does."""
    connection = await asyncpg.connect(url)
    try:
        ended = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND (query LIKE 'LISTEN%' OR query LIKE '%pg_notify(%')"
        )
    finally:
        await connection.close()
    assert ended


async def test_with_sqlite_there_is_nothing_to_listen_to(sqlite_url: str) -> None:
    """One process: its commands hint by themselves."""
    async with open_store(sqlite_url) as store:
        ear = Ear()
        async with asyncio.timeout(30):
            await Listener(store.database, on_hint=ear.hint, on_missed=ear.missed).run()
        await hint(store, "endings")

    assert ear.topics.empty()
