"""A PostgreSQL server that stops and comes back, and one behind a pooler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.values import VITALS, beat, create_token, new_agent
from ct_ops_server.fleet.model import StreamOpened, StreamOpening
from ct_ops_server.fleet.ports import StoreError, StoreUnavailableError
from ct_ops_server.store.database import Database
from ct_ops_server.store.opening import Store, open_store
from databases import PostgresServer, fresh_database, postgres_server


@pytest.fixture(scope="module")
def fragile_postgres() -> Iterator[PostgresServer]:
    """A server of its own: it is stopped while others need theirs."""
    with postgres_server() as running:
        yield running


@asynccontextmanager
async def store_with_an_agent(url: str) -> AsyncIterator[Store]:
    async with open_store(url) as store:
        token = await create_token(store.tokens)
        await store.enrolment.admit(new_agent("a", token_id=token), leaf=None)
        assert StreamOpened(1) == await store.streams.open_stream(
            StreamOpening("a", "key-a", "worker-1", None)
        )
        yield store


async def until_it_answers(store: Store) -> None:
    """Ask again as a stream would; each failure must be an outage and nothing else."""
    for _ in range(20):
        try:
            assert await store.streams.record_heartbeat(beat("a", 1))
        except StoreUnavailableError:
            await asyncio.sleep(0.05)
        else:
            return
    pytest.fail("the store did not come back")


async def test_while_the_database_is_down_every_call_says_so_and_then_it_is_back(
    fragile_postgres: PostgresServer,
) -> None:
    """Writes and reads are unavailable during an outage, without any restart of ours afterwards."""
    url = await fresh_database(fragile_postgres.url)
    async with store_with_an_agent(url) as store:
        fragile_postgres.stop()
        attempts = await asyncio.gather(
            *(store.streams.record_heartbeat(beat("a", 1)) for _ in range(3)),
            store.presence.renew_lease("worker-1"),
            store.agents.list_agents(),
            store.database.ping(),
            return_exceptions=True,
        )
        fragile_postgres.start()
        await until_it_answers(store)
        await store.database.ping()
        (agent,) = await store.agents.list_agents()

    assert [StoreUnavailableError] * 6 == [type(attempt) for attempt in attempts]
    assert VITALS == agent.vitals


async def test_a_connection_that_is_cut_in_the_middle_of_a_group_is_an_outage(
    fragile_postgres: PostgresServer,
) -> None:
    """A group whose connection dies is not taken apart, and the next one gets a new connection."""
    url = await fresh_database(fragile_postgres.url)
    async with store_with_an_agent(url) as store:

        async def die(connection: AsyncConnection) -> None:
            await connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

        attempts = await asyncio.gather(
            store.writer.run(die), store.streams.record_heartbeat(beat("a", 1)), return_exceptions=True
        )
        await until_it_answers(store)

    assert [StoreUnavailableError] * 2 == [type(attempt) for attempt in attempts]


async def test_two_transactions_that_wait_for_each_other_both_succeed(
    fragile_postgres: PostgresServer,
) -> None:
    """PostgreSQL ends one side of a deadlock; the writer tries it again and nobody notices."""
    url = await fresh_database(fragile_postgres.url)
    async with open_store(url) as one, open_store(url) as two:
        for worker in ("a", "b"):
            await one.presence.renew_lease(worker)
        locked = {"a": asyncio.Event(), "b": asyncio.Event()}

        async def cross(store: Store, first: str, second: str) -> None:
            async def lock_both(connection: AsyncConnection) -> None:
                statement = sa.text("UPDATE workers SET lease_at = lease_at + 1 WHERE id = :id")
                await connection.execute(statement, {"id": first})
                locked[first].set()
                await locked[second].wait()
                await connection.execute(statement, {"id": second})

            await store.writer.run(lock_both)

        before = await leases(one)
        await asyncio.gather(cross(one, "a", "b"), cross(two, "b", "a"))

        assert [lease + 2 for lease in before] == await leases(one)


async def leases(store: Store) -> list[int]:
    async with store.database.reading() as connection:
        return list(await connection.scalars(sa.text("SELECT lease_at FROM workers ORDER BY id")))


async def test_a_server_that_is_not_there_is_unavailable(fragile_postgres: PostgresServer) -> None:
    """Opening fails with an outage, and no error names the password."""
    url = fragile_postgres.url.replace("postgres@", "ada:hunter2@").replace("/data", "/nothing")

    with pytest.raises(StoreUnavailableError) as outage:
        await Database.open(url)
    assert "hunter2" not in repr(outage.value)


async def test_a_login_that_is_refused_is_unavailable(fragile_postgres: PostgresServer) -> None:
    """A wrong user is nothing that a write did."""
    with pytest.raises(StoreError) as refused:
        await Database.open(fragile_postgres.url.replace("postgres@", "nobody:hunter2@"))

    assert isinstance(refused.value, StoreUnavailableError)
    assert 'role "nobody" does not exist' in str(refused.value)
    assert "hunter2" not in repr(refused.value)


async def test_behind_a_pooler_no_statement_is_prepared_by_name(fragile_postgres: PostgresServer) -> None:
    """A pooler in transaction mode gives every transaction another session: names would be lost."""
    url = await fresh_database(fragile_postgres.url)
    prepared = {}
    for setting in ("on", "off"):
        async with open_store(f"{url}&prepared_statements={setting}") as store:
            await store.presence.renew_lease("worker-1")
            await store.presence.renew_lease("worker-1")

            async def count(connection: AsyncConnection) -> int:
                rows = await connection.execute(sa.text("SELECT name FROM pg_prepared_statements"))
                return len(rows.all())

            prepared[setting] = await store.writer.run(count)

    assert prepared["on"]
    assert 0 == prepared["off"]
