"""Upkeep: how long it rests, and that it rests less when it falls behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.store.database import Database
from ct_ops_server.store.opening import open_store
from ct_ops_server.store.upkeep import Upkeep, UpkeepElsewhereError
from ct_ops_server.store.writer import GroupWriter


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it rested, each time; nobody really waits."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("ct_ops_server.store.upkeep.asyncio.sleep", sleep)
    return slept


async def command(_connection: object) -> str:
    return "done"


class Writer:
    """Runs commands; each takes a second by a clock of its own."""

    def __init__(self) -> None:
        self.now_s = 0.0

    async def run(self, command: Any) -> Any:
        self.now_s += 1.0
        return await command(None)


def upkeep_of(writer: Writer) -> Upkeep:
    database = cast("Database", SimpleNamespace(has_listeners=False))
    return Upkeep(database, cast("GroupWriter", writer), clock=lambda: writer.now_s)


@pytest.mark.parametrize(("late_s", "rest_s"), [(0.0, 4.0), (1_800.0, 2.0), (3_600.0, 0.005), (1e9, 0.005)])
async def test_the_rest_is_shorter_the_longer_work_has_been_waiting(
    rests: list[float], late_s: float, rest_s: float
) -> None:
    """Four times the step when there is nothing to catch up with; none, but for others' turn, after an hour."""
    upkeep = upkeep_of(Writer())
    upkeep.hurry(late_s)
    outcome = await upkeep.step(command)

    assert ("done", 1.0) == outcome
    assert [rest_s] == rests


async def test_it_rests_again_once_it_has_caught_up(rests: list[float]) -> None:
    """Being late once is not for ever."""
    upkeep = upkeep_of(Writer())
    upkeep.hurry(7_200.0)
    await upkeep.step(command)
    upkeep.hurry(0.0)
    await upkeep.step(command)

    assert [0.005, 4.0] == rests


async def test_of_two_processes_on_one_postgresql_one_does_the_upkeep(postgres_url: str) -> None:
    """The other is told so at once, and takes over when the first one ends or dies."""
    async with open_store(postgres_url) as first, open_store(postgres_url) as second:
        mine, theirs = (Upkeep(store.database, store.writer) for store in (first, second))
        async with mine.alone():
            with pytest.raises(UpkeepElsewhereError):
                async with theirs.alone():
                    raise AssertionError("both are at it")
        async with theirs.alone():
            assert 1 == await theirs.run(one)


async def test_outage_whoever_did_the_upkeep_was_killed_and_another_takes_over(postgres_url: str) -> None:
    """The lock goes with the connection: nobody has to take it away."""
    async with open_store(postgres_url) as first, open_store(postgres_url) as second:
        mine, theirs = (Upkeep(store.database, store.writer) for store in (first, second))
        async with mine.alone():
            with pytest.raises(StoreUnavailableError):
                await mine.run(die)
            async with theirs.alone():
                assert 1 == await theirs.run(one)


async def one(connection: AsyncConnection) -> int | None:
    return await connection.scalar(sa.select(sa.literal(1)))


async def die(connection: AsyncConnection) -> None:
    await connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
