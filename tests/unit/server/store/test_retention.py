"""What is too old goes, piece by piece; what is young, and whose it is, stays."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from contract.values import new_agent
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.fleet.delivery import Delivery
from ct_ops_server.fleet.items import CollectorState, Item, Sample
from ct_ops_server.fleet.model import StreamOpening
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.retention import Pieces, Retention
from ct_ops_server.store.sample_tables import collectors, samples

HOUR_MS = 3_600_000
KEEP = timedelta(days=1)


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as store:
        await store.tokens.create_token("t", b"t", TokenTerms("t"), actor="ada")
        for agent in ("a", "b"):
            await store.enrolment.admit(new_agent(agent, token_id="t"), leaf=None)
            await store.streams.open_stream(StreamOpening(agent, f"key-{agent}", "w", None))
        yield store


async def deliver(store: Store, agent_id: str, *items: Item, running: tuple[str, ...] | None = None) -> None:
    states = None if running is None else tuple(CollectorState(name, 60_000, "") for name in running)
    await store.deliveries.deliver(Delivery(agent_id, 1, tuple(enumerate(items)), collectors=states))


def sample(series: str, hours_ago: float) -> Sample:
    return Sample(series, int(time.time() * 1000 - hours_ago * HOUR_MS), 1.0, "")


async def count(store: Store, table: sa.Table) -> int:
    async with store.database.reading() as connection:
        return await connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


async def test_old_samples_go_and_young_ones_stay(opened: Store) -> None:
    """A series that has nothing left goes with its last sample."""
    await deliver(opened, "a", *(sample("cpu.used", hours) for hours in (1, 23, 25, 400)))
    await deliver(opened, "a", *(sample("gone.used", hours) for hours in (25, 26)))
    deleted = await Retention(opened.writer, keep=KEEP).make_pass()

    assert 4 == deleted
    assert 2 == await count(opened, samples)
    assert ["cpu.used"] == [each.text for each in await opened.samples.series("a")]


async def test_samples_of_deleted_agents_go_whatever_their_age(opened: Store) -> None:
    """And nobody else's."""
    for agent in ("a", "b"):
        await deliver(opened, agent, sample("cpu.used", 1))
    await opened.agents.delete_agent("a", actor="ada", reason="")

    assert 1 == await Retention(opened.writer, keep=KEEP).make_pass()
    assert ["cpu.used"] == [each.text for each in await opened.samples.series("b")]


async def test_more_than_a_piece_goes_in_pieces(opened: Store) -> None:
    """No transaction deletes more than its share, and nothing is left over."""
    old = [sample(f"cpu.core{number}", 30 + hours) for number in range(4) for hours in range(5)]
    await deliver(opened, "a", *old, sample("cpu.core0", 1))
    told: list[int] = []
    pieces = Pieces(series=2, samples=3, rest=0)
    deleted = await Retention(opened.writer, keep=KEEP, pieces=pieces, deleted=told.append).make_pass()

    assert 20 == deleted == sum(told)
    assert 3 == max(told)
    assert 1 == await count(opened, samples)
    assert ["cpu.core0"] == [each.text for each in await opened.samples.series("a")]


async def test_an_empty_database_is_passed_over(opened: Store) -> None:
    """Nothing to do is nothing done."""
    assert 0 == await Retention(opened.writer, keep=KEEP).make_pass()


async def test_collectors_that_ended_long_ago_are_forgotten(opened: Store) -> None:
    """Those that run, and those that ended lately, are not."""
    await deliver(opened, "a", sample("old.used", 1), sample("new.used", 1), running=("old", "new"))
    await deliver(opened, "a", running=("new",))
    await Retention(opened.writer, keep=timedelta(hours=1)).make_pass()
    before = await count(opened, collectors)
    await Retention(opened.writer, keep=timedelta(milliseconds=0)).make_pass()

    assert (2, 1) == (before, await count(opened, collectors))
