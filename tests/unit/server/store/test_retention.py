"""What is past keeping goes, piece by piece or by partitions; what is young, and whose it is, stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from ct_ops_server.fleet.delivery import Delivery
from ct_ops_server.fleet.items import CollectorState
from ct_ops_server.fleet.resolutions import DAY_MS, HOUR_MS, Keeping, Resolution, start_of
from ct_ops_server.store.forgetting import Forgetting, RecordsKeep
from ct_ops_server.store.grouping import WriterLimits
from ct_ops_server.store.opening import open_store
from ct_ops_server.store.partition_names import default_of
from ct_ops_server.store.partitions import read_partitions
from ct_ops_server.store.rollup_tables import days, minutes
from ct_ops_server.store.sample_tables import collectors, samples, series
from ct_ops_server.store.schema import status_history, tokens, tombstones
from unit.server.store.rollup_world import RollupWorld

DAY = timedelta(days=1)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[RollupWorld]:
    async with open_store(database_url, limits=WriterLimits(gather_s=0)) as store:
        opened = RollupWorld(store)
        await opened.enrol("a", "b")
        yield opened


async def deliver(world: RollupWorld, agent: str, text: str, *hours_ago: int) -> None:
    now = await world.now_ms()
    await world.deliver(agent, [(text, now - each * HOUR_MS, 1.0) for each in hours_ago])


async def texts(world: RollupWorld, agent: str) -> list[str]:
    return [each.text for each in await world.store.samples.series(agent)]


async def test_old_samples_go_and_young_ones_and_buckets_stay(world: RollupWorld) -> None:
    """Whole days go; what they were rolled up to is kept longer."""
    await deliver(world, "a", "cpu.used", 1, 23, 50, 100)
    await world.retain()

    assert 2 == await world.count(samples)
    assert 2 == sum(each.samples for each in (await world.buckets(Resolution.DAY)).values())


async def test_buckets_past_keeping_go(world: RollupWorld) -> None:
    """Each resolution by its own time."""
    await deliver(world, "a", "cpu.used", 1, 24 * 8)
    await world.retain()
    await world.roll_up()

    assert 1 == await world.count(minutes)
    assert 2 == await world.count(days)


async def test_samples_of_deleted_agents_go_whatever_their_age(world: RollupWorld) -> None:
    """With all that was rolled up of them, and nobody else's."""
    for agent in ("a", "b"):
        await deliver(world, agent, "cpu.used", *range(1, 20))
    await world.roll_up()
    await world.store.agents.delete_agent("a", actor="ada", reason="")
    await world.retain()

    assert ["cpu.used"] == await texts(world, "b")
    assert 1 == await world.count(series)
    assert 19 == await world.count(samples) == await world.count(minutes)


async def test_a_series_that_nobody_delivers_retires_and_is_removed_in_time(world: RollupWorld) -> None:
    """A retired one is still read and does not count; one that was away for too long is gone with its buckets."""
    await deliver(world, "a", "gone.used", 60)
    await deliver(world, "a", "cpu.used", 1)
    await world.retain()
    both = await texts(world, "a")
    await world.write(series.update().where(series.c.retired_at.is_not(None)).values(retired_at=1))
    await world.retain()
    await world.roll_up()

    assert ["cpu.used", "gone.used"] == both
    assert ["cpu.used"] == await texts(world, "a")
    assert ["cpu.used"] == [text for _, text, _ in await world.buckets(Resolution.DAY)]


async def test_retired_series_make_room_for_new_ones_and_come_back(database_url: str) -> None:
    """A label with a process id in it does not shut its host out for ever."""
    async with open_store(database_url, series_of_an_agent=1, limits=WriterLimits(gather_s=0)) as store:
        world = RollupWorld(store)
        await world.enrol("a")
        await deliver(world, "a", "pid.one", 60)
        await world.retain()
        await deliver(world, "a", "pid.two", 1)
        await deliver(world, "a", "pid.one", 1)
        refused = await store.deliveries.refused_items("a")
        rows = await world.count(samples)

    assert ["series_limit"] == [each.reason for each in refused]
    assert 1 == rows


async def test_an_empty_database_is_passed_over(world: RollupWorld) -> None:
    """Nothing to do is nothing done, also the second time."""
    await world.retain()
    await world.retain()

    assert 0 == sum(world.removed.values())


async def test_partitions_are_made_ahead_and_dropped_as_a_whole(postgres_url: str) -> None:
    """What the default one held of their time moves to them, and samples of every time are taken."""
    async with open_store(postgres_url) as store:
        world = RollupWorld(store)
        await world.enrol("a")
        now = await world.now_ms()
        times = [now - 3 * DAY_MS, now - HOUR_MS, now, now + 20 * HOUR_MS]
        await world.deliver("a", [("cpu.used", at, 1.0) for at in times])
        await world.retain()
        left = sa.table(default_of("samples"))
        async with store.database.reading() as connection:
            there = await read_partitions(connection, table="samples")
            in_default = await connection.scalar(sa.select(sa.func.count()).select_from(left))
        await world.retain(keeping=Keeping(timedelta(milliseconds=1), DAY * 5, DAY * 20, DAY * 400))
        async with store.database.reading() as connection:
            later = await read_partitions(connection, table="samples")
        await world.deliver("a", [("cpu.used", 946_684_800_000, 1.0), ("cpu.used", now + 100 * DAY_MS, 1.0)])
        rest = await world.count(samples)

    ends = [each.end_ms for each in there]
    assert start_of(now, DAY_MS) + 3 * DAY_MS in ends
    assert 0 == in_default
    assert [each for each in ends if each > start_of(now, DAY_MS)] == [each.end_ms for each in later]
    assert 2 <= rest


async def test_records_past_keeping_are_forgotten(world: RollupWorld) -> None:
    """Tokens that ended, collectors that stopped, old decisions but each agent's latest, who was deleted."""
    store = world.store
    running = (CollectorState("old", 60_000, ""),)
    await deliver(world, "a", "old.used", 1)
    await store.deliveries.deliver(Delivery("a", 1, (), collectors=running))
    await store.deliveries.deliver(Delivery("a", 1, (), collectors=()))
    await store.tokens.revoke_token("t", actor="ada", reason="")
    await store.agents.delete_agent("b", actor="ada", reason="")
    await world.write(
        status_history.insert().values(
            [{"agent_id": "a", "at": at, "status": "active", "actor": "ada", "reason": ""} for at in (1, 2)]
        )
    )
    tables = (tokens, collectors, tombstones)
    long, upkeep = RecordsKeep(), world.upkeep()
    async with upkeep.alone():
        await Forgetting(upkeep, keep=long, rows=1).make_pass()
        before = [await world.count(table) for table in tables]
        at_once = timedelta(0)
        await Forgetting(upkeep, keep=RecordsKeep(at_once, at_once, at_once), rows=1).make_pass()
    after = [await world.count(table) for table in tables]

    assert [1, 1, 1] == before
    assert [0, 0, 0] == after
    assert 1 == await world.count(status_history)
