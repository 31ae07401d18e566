from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.in_memory import InMemory
from contract.timelines import DatabaseTimeline, MemoryTimeline, Timeline, path_with
from contract.values import StoreUnderTest
from contract.work_values import WorkUnderTest, work_in_database, work_in_memory
from ct_ops_server.fleet.items import Owned
from ct_ops_server.store.check_results import CheckResults
from ct_ops_server.store.hurry_tables import hurried, hurries
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.replaying import Event, replay
from ct_ops_server.store.schema import workers
from databases import PostgresServer


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
def store_url(request: pytest.FixtureRequest) -> str | None:
    """The address of an empty database of each sort; None: in memory."""
    url: str | None = None if request.param == "memory" else request.getfixturevalue(request.param)
    return url


@pytest.fixture
async def store(store_url: str | None) -> AsyncIterator[StoreUnderTest]:
    """A new store of each sort."""
    if store_url is None:
        yield InMemory().under_test()
        return
    async with _opened(store_url) as opened:
        yield opened


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[StoreUnderTest]:
    async with open_store(url) as opened:
        await opened.installation.open()  # what has none is not backed up
        yield _under_test(opened)


def _under_test(store: Store) -> StoreUnderTest:
    async def age_lease(worker_id: str, age: timedelta) -> None:
        async def write(connection: AsyncConnection) -> None:
            older = workers.c.lease_at - age // timedelta(milliseconds=1)
            await connection.execute(workers.update().where(workers.c.id == worker_id).values(lease_at=older))

        await store.writer.run(write)

    async def deliver_check_results(owned: Sequence[Owned]) -> Sequence[str | None]:
        async def write(connection: AsyncConnection) -> Sequence[str | None]:
            return await CheckResults().apply(connection, owned)

        return await store.writer.run(write)

    async def hurry_later(span: timedelta) -> None:
        async def write(connection: AsyncConnection) -> None:
            span_ms = span // timedelta(milliseconds=1)
            await connection.execute(hurries.update().values(last_sent_at=hurries.c.last_sent_at - span_ms))
            moved = {"picked_at": hurried.c.picked_at - span_ms, "pushed_at": hurried.c.pushed_at - span_ms}
            await connection.execute(hurried.update().values(moved))

        await store.writer.run(write)

    async def replay_in_database(events: Sequence[Event]) -> object:
        return await store.writer.run(lambda connection: replay(connection, events))

    return StoreUnderTest(
        streams=store.streams,
        presence=store.presence,
        agents=store.agents,
        clones=store.clones,
        successions=store.successions,
        enrolment=store.enrolment,
        tokens=store.tokens,
        refusals=store.refusals,
        carried=store.carried,
        endings=store.endings,
        deliveries=store.deliveries,
        checks=store.checks,
        deliver_check_results=deliver_check_results,
        samples=store.samples,
        trust=store.trust,
        anchors=store.anchors,
        server_cas=store.server_cas,
        hurries=store.hurries,
        hurry_later=hurry_later,
        replay=replay_in_database,
        age_lease=age_lease,
    )


@pytest.fixture
async def work(store_url: str | None) -> AsyncIterator[WorkUnderTest]:
    """A new store of queries, tasks and inventories of each sort."""
    async with work_in_memory() if store_url is None else work_in_database(store_url) as opened:
        yield opened


@pytest.fixture(params=["memory", "sqlite_url", "postgres_url"])
def timeline(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Timeline:
    """A store of each sort that can be taken back in time."""
    if request.param == "memory":
        return MemoryTimeline()
    url: str = request.getfixturevalue(request.param)
    if request.param == "postgres_url":
        server: PostgresServer = request.getfixturevalue("postgres")
        monkeypatch.setenv("PATH", path_with(server.tools))
    return DatabaseTimeline(url, tmp_path / "copy", _opened)
