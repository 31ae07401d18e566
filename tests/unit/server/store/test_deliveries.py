"""Deliveries that a database refuses: they stop nobody, and not their own agent either (rules 15 and 16)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.values import VITALS, new_agent
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.fleet.delivery import BatchNumber, Delivered, Delivery, Verdict
from ct_ops_server.fleet.items import Gap, Item, ItemRefused, Owned, Sample
from ct_ops_server.fleet.model import HeartbeatWrite, StreamOpening
from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.store.deliveries import MOST_SAVEPOINTS, SqlDeliveryStore
from ct_ops_server.store.gaps import GapWriter
from ct_ops_server.store.grouping import WriterLimits
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.sample_tables import samples, series
from ct_ops_server.store.samples import SampleWriter

POISON = "poison"


class Fragile(GapWriter):
    """A writer with a defect: the database refuses what it makes of some gaps."""

    async def apply(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        if any(isinstance(each.item, Gap) and each.item.reason == POISON for each in owned):
            await connection.execute(sa.text("INSERT INTO counters (name, value) VALUES ('poison', NULL)"))
        return await super().apply(connection, owned)


@asynccontextmanager
async def enrolled(url: str, *agents: str) -> AsyncIterator[Store]:
    """Yield a store with agents that have a stream each."""
    async with open_store(url) as store:
        await store.tokens.create_token("t", b"t", TokenTerms("t"), actor="ada")
        for agent in agents:
            await store.enrolment.admit(new_agent(agent, token_id="t"), leaf=None)
            await store.streams.open_stream(StreamOpening(agent, f"key-{agent}", "w", None))
        yield store


def fragile(store: Store) -> SqlDeliveryStore:
    return SqlDeliveryStore(store.database, store.writer, {Gap: Fragile(), Sample: SampleWriter()})


def gap(number: int, reason: str = "space") -> Gap:
    return Gap("samples", number, 0, 0, reason)


def batch(agent_id: str, seq: int, *items: Item) -> Delivery:
    digest = hashlib.sha256(repr((seq, items)).encode()).digest()[:16]
    return Delivery(agent_id, 1, tuple(enumerate(items)), number=BatchNumber(bytes(16), seq, digest))


@pytest.fixture
async def two(database_url: str) -> AsyncIterator[Store]:
    async with enrolled(database_url, "good", "bad") as store:
        yield store


async def test_a_poisoned_batch_does_not_stop_the_others(two: Store) -> None:
    """In one group with it, they are stored; it loses its one item, and says which."""
    deliveries = fragile(two)
    poisoned = batch("bad", 1, gap(1), gap(2, POISON), gap(3))
    good, bad = await asyncio.gather(
        *(deliveries.deliver(each) for each in (batch("good", 1, gap(7)), poisoned))
    )
    refused = await deliveries.refused_items("bad")

    assert (Verdict.STORED, ()) == (good.verdict, good.refused)
    assert (Verdict.STORED, (ItemRefused(1, "not_storable"),)) == (bad.verdict, bad.refused)
    assert {1, 3} == {stored.gap.count for stored in await deliveries.gaps("bad")}
    assert [("gap", "not_storable", 1)] == [(each.kind, each.reason, each.count) for each in refused]


async def test_a_poisoned_batch_does_not_block_its_own_agent(two: Store) -> None:
    """Its number is used up like any other: the next one fits."""
    deliveries = fragile(two)
    await deliveries.deliver(batch("bad", 1, gap(1, POISON)))
    told = await deliveries.deliver(batch("bad", 2, gap(2)))

    assert (Verdict.STORED, ()) == (told.verdict, told.refused)
    assert [2] == [stored.gap.count for stored in await deliveries.gaps("bad")]


async def test_a_batch_of_nothing_but_poison_costs_a_bounded_time(two: Store) -> None:
    """Savepoints run out before the patience of everybody else; what was not tried is refused as well."""
    deliveries = fragile(two)
    items = [gap(number, POISON) for number in range(4 * MOST_SAVEPOINTS)]
    told = await deliveries.deliver(batch("bad", 1, *items))

    assert Verdict.STORED is told.verdict
    assert list(range(len(items))) == [each.index for each in told.refused]


async def test_a_nul_that_an_edge_let_through_is_refused_alone(two: Store) -> None:
    """What the edge forgets to clean costs an item, not a group, on both databases."""
    hostile = Sample('disk.used_bytes{mount="\0"}', 1_790_000_000_000, 1.0, "bytes")
    sound = Sample("disk.used_bytes", 1_790_000_000_000, 1.0, "bytes")
    huge = Sample("disk.used_bytes", 2**63, 1.0, "bytes")
    told = await two.deliveries.deliver(batch("bad", 1, hostile, sound, huge))
    (refused,) = await two.deliveries.refused_items("bad")

    assert (ItemRefused(0, "not_storable"), ItemRefused(2, "not_storable")) == told.refused
    assert 2 == refused.count
    assert refused.example.isprintable()
    assert ["disk.used_bytes"] == [each.text for each in await two.samples.series("bad")]


async def test_a_full_backlog_turns_batches_away_and_no_heartbeat(database_url: str) -> None:
    """A fleet that comes home waits its turn; its vitals do not."""
    limits = WriterLimits(backlog=10)
    async with open_store(database_url, limits=limits) as store:
        await store.tokens.create_token("t", b"t", TokenTerms("t"), actor="ada")
        for agent in ("a", "b", "c"):
            await store.enrolment.admit(new_agent(agent, token_id="t"), leaf=None)
            await store.streams.open_stream(StreamOpening(agent, f"key-{agent}", "w", None))
        items = [gap(number) for number in range(200)]
        answers = await asyncio.gather(
            *(store.deliveries.deliver(batch(agent, 1, *items)) for agent in ("a", "b")),
            store.streams.record_heartbeat(HeartbeatWrite("c", 1, VITALS, None)),
            return_exceptions=True,
        )

        assert store.deliveries.load == 0
    assert isinstance(answers[0], Delivered)
    assert isinstance(answers[1], StoreUnavailableError)
    assert answers[2] is True


async def test_series_beyond_the_limit_are_refused_and_counted(database_url: str) -> None:
    """The first ones stay and go on; the next ones are refused with every batch, for this agent alone."""
    at_ms = 1_790_000_000_000
    texts = [f'disk.used_bytes{{mount="/{number}"}}' for number in range(5)]
    async with enrolled(database_url, "a", "b") as store:
        limited = SqlDeliveryStore(store.database, store.writer, {Sample: SampleWriter(3)})
        first = await limited.deliver(batch("a", 1, *(Sample(text, at_ms, 1.0, "") for text in texts)))
        again = await limited.deliver(batch("a", 2, *(Sample(text, at_ms + 1, 2.0, "") for text in texts)))
        other = await limited.deliver(batch("b", 1, Sample(texts[4], at_ms, 1.0, "")))
        (refused,) = await limited.refused_items("a")
        kept = [each.text for each in await store.samples.series("a")]

    beyond = (ItemRefused(3, "series_limit"), ItemRefused(4, "series_limit"))
    assert [beyond, beyond, ()] == [each.refused for each in (first, again, other)]
    assert ("sample", "series_limit", 4, texts[4]) == (
        refused.kind,
        refused.reason,
        refused.count,
        refused.example,
    )
    assert texts[:3] == kept


async def test_a_deleted_agent_leaves_its_samples_to_retention(two: Store) -> None:
    """Deleting is quick however much there is: its series belong to nobody from then on."""
    await two.deliveries.deliver(batch("bad", 1, Sample("cpu.used_percent", 1_790_000_000_000, 1.0, "")))
    await two.agents.delete_agent("bad", actor="ada", reason="scrapped")
    async with two.database.reading() as connection:
        owners = list(await connection.scalars(sa.select(series.c.agent_id)))
        left = await connection.scalar(sa.select(sa.func.count()).select_from(samples))

    assert [None] == owners
    assert 1 == left
