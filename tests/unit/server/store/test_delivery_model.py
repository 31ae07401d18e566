"""Random histories told to the SQL store and to the fake that simulations use: they answer the same.

What a simulation shows with the fake is then true of the real thing.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.values import create_token, new_agent
from ct_ops_server.enrolment.ports import EnrolmentStore
from ct_ops_server.enrolment.token_ports import TokenStore
from ct_ops_server.fleet.delivery import BatchNumber, Delivery, DeliveryStore, Position, Verdict
from ct_ops_server.fleet.items import Gap, Item, Owned, Sample
from ct_ops_server.fleet.model import AgentStatus, StreamOpening
from ct_ops_server.fleet.ports import AgentStore, StreamStore
from ct_ops_server.fleet.samples import SampleStore
from ct_ops_server.store.deliveries import SqlDeliveryStore
from ct_ops_server.store.gaps import GapWriter
from ct_ops_server.store.opening import Store, open_store
from fakes.memory_deliveries import MemoryDeliveries
from fakes.memory_store import MemoryStore

AGENTS = ("a", "b")
OUTBOXES = tuple(bytes([number]) * 16 for number in range(11))
EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@dataclass
class Side:
    """One of the two that are told the history."""

    tokens: TokenStore
    enrolment: EnrolmentStore
    streams: StreamStore
    agents: AgentStore
    deliveries: DeliveryStore
    samples: SampleStore

    async def enrol(self) -> None:
        token = await create_token(self.tokens)
        for agent_id in AGENTS:
            await self.enrolment.admit(new_agent(agent_id, token_id=token), leaf=None)

    async def holds(self) -> object:
        """Return everything that a server remembers of deliveries."""
        return [
            (
                [await self.deliveries.position(agent_id, outbox) for outbox in OUTBOXES],
                {stored.gap for stored in await self.deliveries.gaps(agent_id)},
                await self.samples.curves(
                    agent_id,
                    [each.text for each in await self.samples.series(agent_id)],
                    since=EVER[0],
                    until=EVER[1],
                    limit=10_000,
                ),
            )
            for agent_id in AGENTS
        ]


def sql_side(store: Store) -> Side:
    return Side(store.tokens, store.enrolment, store.streams, store.agents, store.deliveries, store.samples)


def memory_side() -> Side:
    memory = MemoryStore()
    deliveries = MemoryDeliveries(memory.is_current)
    return Side(memory, memory, memory, memory, deliveries, deliveries)


def random_items(chance: random.Random) -> list[Item]:
    items: list[Item] = [
        Sample(
            f"cpu.core{chance.randrange(3)}", 1_790_000_000_000 + chance.randrange(20), chance.random(), ""
        )
        for _ in range(chance.randrange(4))
    ]
    return items + [Gap("samples", chance.randrange(5), 0, 0, "space")] * chance.randrange(2)


def random_delivery(chance: random.Random, positions: dict[bytes, Position], generation: int) -> Delivery:
    """Return a batch as agents send them that crashed, were copied, restored, or are well."""
    outbox = chance.choice(OUTBOXES)
    reached = positions.get(outbox, Position())
    seq = max(1, reached.seq + chance.choice((1, 1, 1, 1, 0, 0, -1, 2)))
    items = random_items(chance)
    is_repeated = seq == reached.seq and chance.random() < 0.7
    digest = reached.digest if is_repeated else hashlib.sha256(repr(items).encode()).digest()[:16]
    late = chance.random() < 0.1
    number = None if chance.random() < 0.1 else BatchNumber(outbox, seq, digest)
    return Delivery("", generation - late, tuple(enumerate(items)), number=number)


async def live_through(sides: tuple[Side, Side], chance: random.Random, steps: int) -> None:
    """Tell both the same; every answer must be the same."""
    generations = dict.fromkeys(AGENTS, 0)
    positions: dict[str, dict[bytes, Position]] = {agent_id: {} for agent_id in AGENTS}
    for _ in range(steps):
        agent_id = chance.choice(AGENTS)
        what = chance.random()
        if what < 0.1 or not generations[agent_id]:
            opening = StreamOpening(agent_id, f"key-{agent_id}", "w", None)
            answers = [await side.streams.open_stream(opening) for side in sides]
            assert answers[0] == answers[1]
            generations[agent_id] = getattr(answers[0], "generation", generations[agent_id])
        elif what < 0.13:
            to = chance.choice((AgentStatus.REVOKED, AgentStatus.ACTIVE))
            for side in sides:
                await side.agents.change_status(
                    agent_id, allowed_from=frozenset(AgentStatus), to=to, actor="ada", reason=""
                )
        else:
            sent = random_delivery(chance, positions[agent_id], generations[agent_id])
            delivery = Delivery(agent_id, sent.generation, sent.items, number=sent.number)
            told = [await side.deliveries.deliver(delivery) for side in sides]
            assert told[0] == told[1]
            if delivery.number and told[0].verdict is not Verdict.FENCED:
                positions[agent_id][delivery.number.outbox_id] = told[0].position


@pytest.fixture
async def sides(database_url: str) -> AsyncIterator[tuple[Side, Side]]:
    async with open_store(database_url) as store:
        both = (sql_side(store), memory_side())
        for side in both:
            await side.enrol()
        yield both


@pytest.mark.parametrize("seed", range(3))
async def test_the_store_and_the_fake_live_through_the_same_histories(
    sides: tuple[Side, Side], seed: int
) -> None:
    """Answers and what is held, with streams that take over, revocations, and eleven outboxes."""
    await live_through(sides, random.Random(seed), steps=400)

    assert await sides[0].holds() == await sides[1].holds()


class Held(GapWriter):
    """A writer whose transaction is under way for as long as the test likes."""

    def __init__(self) -> None:
        self.entered, self.released = asyncio.Event(), asyncio.Event()

    async def apply(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        self.entered.set()
        await self.released.wait()
        return await super().apply(connection, owned)


async def test_a_stream_that_takes_over_on_another_server_never_finds_less_than_was_acknowledged(
    postgres_url: str,
) -> None:
    """Two servers, one database: it opens after a delivery that is under way, and reads it as stored.

    A late commit after the new stream has read its position would be acknowledged and unknown at once.
    """
    number = BatchNumber(OUTBOXES[0], 1, bytes(16))
    held = Held()
    async with open_store(postgres_url) as one, open_store(postgres_url) as other:
        await sql_side(one).enrol()
        await one.streams.open_stream(StreamOpening("a", "key-a", "one", None))
        slow = SqlDeliveryStore(one.database, one.writer, {Gap: held})

        async def take_over() -> Position:
            await other.streams.open_stream(StreamOpening("a", "key-a", "other", None))
            return await other.deliveries.position("a", OUTBOXES[0])

        late = asyncio.create_task(
            slow.deliver(Delivery("a", 1, ((0, Gap("samples", 1, 0, 0, "")),), number=number))
        )
        await held.entered.wait()
        opening = asyncio.create_task(take_over())
        await asyncio.wait([opening], timeout=0.5)
        held.released.set()

        assert Verdict.STORED is (await late).verdict
        assert Position(1, bytes(16)) == await opening
