"""What ``fleet.delivery.DeliveryStore`` promises: numbered batches stored once, and nothing in between."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from contract.values import StoreUnderTest, enrol, open_stream
from ct_ops_server.fleet.delivery import (
    KEPT_OUTBOXES,
    BatchNumber,
    Delivered,
    Delivery,
    MalformedItem,
    Position,
    Verdict,
)
from ct_ops_server.fleet.items import Gap, Item, ItemRefused
from ct_ops_server.fleet.model import AgentStatus

OUTBOX = bytes(range(16))
OTHER_OUTBOX = bytes(range(16, 32))


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def gap(number: int = 1) -> Gap:
    return Gap("samples", number, 1_790_000_000_000, 1_790_000_060_000 + number, "space")


def batch(
    seq: int,
    *items: Item,
    agent_id: str = "a",
    generation: int = 1,
    outbox_id: bytes = OUTBOX,
    content: str | None = None,
) -> Delivery:
    """Return a batch whose digest is that of its content, by default one for each number."""
    number = BatchNumber(outbox_id, seq, digest_of(content or f"batch {seq}"))
    return Delivery(agent_id, generation, tuple(enumerate(items)), number=number)


def reached(delivery: Delivery) -> Position:
    assert delivery.number is not None
    return Position(delivery.number.seq, delivery.number.digest)


async def gaps_of(store: StoreUnderTest, agent_id: str = "a") -> set[Gap]:
    return {stored.gap for stored in await store.deliveries.gaps(agent_id)}


async def test_batches_are_stored_one_after_the_other(store: StoreUnderTest) -> None:
    """Each next batch moves its outbox's position to its own number and digest."""
    await enrol(store, "a")
    await open_stream(store, "a")
    batches = [batch(seq, gap(seq)) for seq in (1, 2, 3)]
    told = [await store.deliveries.deliver(each) for each in batches]

    assert [Delivered(Verdict.STORED, reached(each)) for each in batches] == told
    assert reached(batches[-1]) == await store.deliveries.position("a", OUTBOX)
    assert {gap(1), gap(2), gap(3)} == await gaps_of(store)


async def test_an_outbox_that_is_not_known_is_before_its_first_batch(store: StoreUnderTest) -> None:
    """Position 0 has the empty digest."""
    await enrol(store, "a")

    assert Position(0, b"") == await store.deliveries.position("a", OUTBOX)


async def test_a_batch_whose_acknowledgement_was_lost_is_stored_once(store: StoreUnderTest) -> None:
    """The same number with the same digest is STORED again and writes nothing."""
    await enrol(store, "a")
    await open_stream(store, "a")
    first = batch(1, gap())
    await store.deliveries.deliver(first)
    malformed = (MalformedItem(0, "sample", "malformed"),)
    again = Delivery("a", 1, (), malformed, number=first.number)
    told = await store.deliveries.deliver(again)

    assert Delivered(Verdict.STORED, reached(first)) == told
    assert [] == list(await store.deliveries.refused_items("a"))


@pytest.mark.parametrize(
    ("seq", "content"), [(2, "another"), (1, None), (4, None), (2**63 - 1, None)], ids=str
)
async def test_a_batch_that_does_not_fit_is_told_where_its_outbox_is(
    store: StoreUnderTest, seq: int, content: str | None
) -> None:
    """Another digest of the same number, an older one, a hole: MISMATCH, and nothing is stored."""
    await enrol(store, "a")
    await open_stream(store, "a")
    for each in (batch(1), batch(2)):
        await store.deliveries.deliver(each)
    told = await store.deliveries.deliver(batch(seq, gap(), content=content))

    assert Delivered(Verdict.MISMATCH, reached(batch(2))) == told
    assert set() == await gaps_of(store)


async def test_a_batch_of_an_outbox_that_was_never_begun_does_not_fit(store: StoreUnderTest) -> None:
    """A restored server, or another one: the agent hears position 0."""
    await enrol(store, "a")
    await open_stream(store, "a")
    told = await store.deliveries.deliver(batch(7, gap()))

    assert Delivered(Verdict.MISMATCH, Position()) == told
    assert set() == await gaps_of(store)


async def test_of_two_first_batches_one_is_stored(store: StoreUnderTest) -> None:
    """Two hosts with one copied outbox: the second hears MISMATCH whatever the order of arrival."""
    await enrol(store, "a")
    await open_stream(store, "a")
    one, other = batch(1, gap(1), content="one"), batch(1, gap(2), content="other")
    told = await asyncio.gather(*(store.deliveries.deliver(each) for each in (one, other)))

    assert [Delivered(Verdict.STORED, reached(one)), Delivered(Verdict.MISMATCH, reached(one))] == told
    assert {gap(1)} == await gaps_of(store)


async def test_the_late_batch_of_an_older_stream_is_fenced(store: StoreUnderTest) -> None:
    """What an old stream still delivers after its successor has opened moves nothing and stores nothing."""
    await enrol(store, "a")
    old = await open_stream(store, "a")
    new = await open_stream(store, "a")
    late = await store.deliveries.deliver(batch(1, gap(1), generation=old))
    told = await store.deliveries.deliver(batch(1, gap(2), generation=new))

    assert (Verdict.FENCED, Verdict.STORED) == (late.verdict, told.verdict)
    assert {gap(2)} == await gaps_of(store)


async def test_two_streams_that_deliver_at_once_agree_in_the_end(store: StoreUnderTest) -> None:
    """While a stream takes over, either it finds the old one's batch stored, or the old one is fenced."""
    await enrol(store, "a")
    old = await open_stream(store, "a")
    late, new = await asyncio.gather(
        store.deliveries.deliver(batch(1, gap(1), generation=old)), open_stream(store, "a")
    )
    position = await store.deliveries.position("a", OUTBOX)
    again = await store.deliveries.deliver(batch(1, gap(1), generation=new))

    assert (late.verdict is Verdict.STORED) == (position == reached(batch(1)))
    assert Verdict.STORED is again.verdict
    assert {gap(1)} == await gaps_of(store)


async def test_a_revoked_agent_delivers_nothing(store: StoreUnderTest) -> None:
    """Its stream may still be open: the row decides."""
    await enrol(store, "a")
    generation = await open_stream(store, "a")
    await store.agents.change_status(
        "a",
        allowed_from=frozenset({AgentStatus.ACTIVE}),
        to=AgentStatus.REVOKED,
        actor="ada",
        reason="sold",
    )
    told = [
        await store.deliveries.deliver(batch(1, gap(), generation=stream))
        for stream in (generation, generation + 1)
    ]

    assert [Verdict.FENCED, Verdict.FENCED] == [each.verdict for each in told]
    assert set() == await gaps_of(store)


async def test_nobody_delivers_nothing(store: StoreUnderTest) -> None:
    """An agent that was deleted meanwhile is fenced."""
    assert Verdict.FENCED is (await store.deliveries.deliver(batch(1, agent_id="nobody"))).verdict


async def test_existing_agents_results_need_no_number_but_the_latest_stream(store: StoreUnderTest) -> None:
    """They are fenced like everything a stream writes, and move no outbox."""
    await enrol(store, "a")
    old = await open_stream(store, "a")
    new = await open_stream(store, "a")
    items = ((0, gap(1)),)
    told = [await store.deliveries.deliver(Delivery("a", stream, items)) for stream in (old, new, new)]

    assert [Verdict.FENCED, Verdict.STORED, Verdict.STORED] == [each.verdict for each in told]
    assert {gap(1)} == await gaps_of(store)


async def test_the_outboxes_used_last_are_remembered(store: StoreUnderTest) -> None:
    """A ninth outbox pushes out the one that was used longest ago, not the one that was made first."""
    await enrol(store, "a")
    await open_stream(store, "a")
    outboxes = [bytes([number]) * 16 for number in range(KEPT_OUTBOXES + 1)]
    for outbox_id in outboxes[:-1]:
        await store.deliveries.deliver(batch(1, outbox_id=outbox_id))
    await store.deliveries.deliver(batch(2, outbox_id=outboxes[0]))
    await store.deliveries.deliver(batch(1, outbox_id=outboxes[-1]))
    kept = [outbox for outbox in outboxes if (await store.deliveries.position("a", outbox)).seq]

    assert [outboxes[0], *outboxes[2:]] == kept


async def test_outboxes_of_one_agent_and_agents_of_one_outbox_are_told_apart(store: StoreUnderTest) -> None:
    """A copied outbox of another agent is that agent's own."""
    await enrol(store, "a", "b")
    for agent_id in ("a", "b"):
        await open_stream(store, agent_id)
    sent = [
        batch(1, gap(1)),
        batch(2, gap(2)),
        batch(1, gap(3), outbox_id=OTHER_OUTBOX),
        batch(1, gap(4), agent_id="b"),
    ]
    told = [await store.deliveries.deliver(each) for each in sent]

    assert [Verdict.STORED] * 4 == [each.verdict for each in told]
    assert {gap(1), gap(2), gap(3)} == await gaps_of(store)
    assert {gap(4)} == await gaps_of(store, "b")


async def test_each_delivery_of_a_group_gets_its_own_answer(store: StoreUnderTest) -> None:
    """Sixty agents at once, each in another state: nobody's answer or items end up with another."""
    names = [f"a{number:03}" for number in range(60)]
    await enrol(store, *names)
    for name in names:
        await open_stream(store, name)
    await asyncio.gather(*(store.deliveries.deliver(batch(1, agent_id=name)) for name in names[::2]))
    expected: list[Verdict] = []
    sent: list[Delivery] = []
    for number, name in enumerate(names):
        is_late = number % 5 == 0
        seq = 2 if number % 3 else 1
        sent.append(batch(seq, gap(number), agent_id=name, generation=0 if is_late else 1))
        stored_already = number % 2 == 0
        fits = stored_already or seq == 1
        expected.append(Verdict.FENCED if is_late else Verdict.STORED if fits else Verdict.MISMATCH)
    told = await asyncio.gather(*(store.deliveries.deliver(each) for each in sent))

    assert expected == [each.verdict for each in told]
    for number, name in enumerate(names):
        is_new = expected[number] is Verdict.STORED and not (number % 2 == 0 and number % 3 == 0)
        assert ({gap(number)} if is_new else set()) == await gaps_of(store, name)


async def test_items_that_are_none_are_recorded_and_block_nothing(store: StoreUnderTest) -> None:
    """Refused by index, counted by kind and reason, with what the latest one was about."""
    await enrol(store, "a")
    await open_stream(store, "a")
    malformed = (
        MalformedItem(0, "sample", "malformed", "cpu"),
        MalformedItem(2, "sample", "malformed", "disk"),
        MalformedItem(3, "gap", "time_out_of_range"),
    )
    number = BatchNumber(OUTBOX, 1, digest_of("one"))
    told = await store.deliveries.deliver(Delivery("a", 1, ((1, gap()),), malformed, number))
    refused = await store.deliveries.refused_items("a")

    assert (
        ItemRefused(0, "malformed"),
        ItemRefused(2, "malformed"),
        ItemRefused(3, "time_out_of_range"),
    ) == (told.refused)
    assert {("sample", "malformed", 2, "disk"), ("gap", "time_out_of_range", 1, "")} == {
        (each.kind, each.reason, each.count, each.example) for each in refused
    }
    assert all(abs(datetime.now(UTC) - each.last_at) < timedelta(minutes=1) for each in refused)
    assert {gap()} == await gaps_of(store)


async def test_a_gap_that_is_told_again_is_the_same_gap(store: StoreUnderTest) -> None:
    """A new outbox resends what was never acknowledged."""
    await enrol(store, "a")
    await open_stream(store, "a")
    await store.deliveries.deliver(batch(1, gap(1), gap(1), gap(2)))
    await store.deliveries.deliver(batch(1, gap(1), gap(3), outbox_id=OTHER_OUTBOX))

    assert [gap(1), gap(2), gap(3)] == sorted(await gaps_of(store), key=lambda each: each.count)
