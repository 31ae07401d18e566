"""The chain in the database: it grows with what is decided, and never with what is undone."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.verification import breaks
from ct_ops_server.store.audit import append
from ct_ops_server.store.opening import Store, open_store


class UndoneError(Exception):
    """What a command raises that comes to nothing."""


def decision(number: int) -> Decision:
    return Decision(
        Action.AGENT_REVOKED, "ada", agent=f"agent-{number}", details={"number": number, "tags": ("a", "b")}
    )


async def decide(store: Store, number: int, *, fail: bool = False) -> None:
    async def command(connection: AsyncConnection) -> None:
        await append(connection, [decision(number)])
        if fail:
            raise UndoneError

    await store.writer.run(command)


async def test_what_is_decided_is_read_back_as_it_was_hashed(store: Store) -> None:
    """On each database."""
    await decide(store, 1)
    await decide(store, 2)

    entries = await store.audit.entries_after(0, limit=10)

    assert [1, 2] == [entry.seq for entry in entries]
    assert [] == breaks(entries)
    assert {"number": 2, "tags": ("a", "b")} == entries[1].details


async def test_a_decision_that_is_undone_is_not_recorded(store: Store) -> None:
    """Its neighbours of the same group are, without a hole."""
    outcomes = await asyncio.gather(
        decide(store, 1), decide(store, 2, fail=True), decide(store, 3), return_exceptions=True
    )

    entries = await store.audit.entries_after(0, limit=10)

    assert isinstance(outcomes[1], UndoneError)
    assert ["agent-1", "agent-3"] == [entry.agent for entry in entries]
    assert [] == breaks(entries)


async def test_a_group_that_fails_as_a_whole_records_nothing(store: Store) -> None:
    """What was noted in a transaction that was rolled back is not written by the next one."""

    async def undone() -> None:
        async with store.database.writing() as connection:
            await append(connection, [decision(1)])
            raise UndoneError

    with pytest.raises(UndoneError):
        await undone()
    await decide(store, 2)

    entries = await store.audit.entries_after(0, limit=10)

    assert ["agent-2"] == [entry.agent for entry in entries]


async def test_a_decision_outside_of_a_writers_transaction_is_refused(store: Store) -> None:
    """It would be lost without a word."""
    async with store.database.reading() as connection:
        with pytest.raises(RuntimeError, match="writing"):
            await append(connection, [decision(1)])


async def test_two_workers_on_one_postgresql_make_one_chain_without_a_fork(postgres_url: str) -> None:
    """Each of them in groups of its own, at the same time."""
    async with open_store(postgres_url) as one, open_store(postgres_url) as two:
        async with asyncio.timeout(60):
            for _ in range(5):
                await asyncio.gather(*(decide((one, two)[number % 2], number) for number in range(40)))
        entries = await one.audit.entries_after(0, limit=1_000)

    assert list(range(1, 201)) == [entry.seq for entry in entries]
    assert [] == breaks(entries)
