"""What ``enrolment.token_ports.RefusalStore`` promises: one record for a key and a reason, the newest kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from contract.values import StoreUnderTest
from ct_ops_server.enrolment.model import Refusal, RefusalNote, RefusalRecord


def note(
    key_id: str = "key-a",
    reason: Refusal = Refusal.TOKEN_EXPIRED,
    *,
    token_id: str | None = "token-1",
    hostname: str = "web-1",
    count: int = 1,
) -> RefusalNote:
    return RefusalNote(reason, key_id, hostname, "192.0.2.7", token_id, count)


async def record(store: StoreUnderTest, *notes: RefusalNote) -> None:
    """Record one after the other, each at a time of its own: the store counts milliseconds."""
    for each in notes:
        await store.refusals.record_refusals([each])
        await asyncio.sleep(0.002)


async def keys(store: StoreUnderTest) -> list[str]:
    return [found.key_id for found in await store.refusals.list_refusals(limit=100)]


async def test_a_refusal_is_read_back_whole(store: StoreUnderTest) -> None:
    """The clock is the store's."""
    await record(store, note())
    (found,) = await store.refusals.list_refusals(limit=10)

    assert timedelta() <= found.last_at - found.first_at < timedelta(seconds=10)
    assert abs(datetime.now(UTC) - found.last_at) < timedelta(minutes=1)
    assert RefusalRecord(
        Refusal.TOKEN_EXPIRED, "key-a", "web-1", "192.0.2.7", "token-1", found.first_at, found.last_at, 1
    ) == found  # fmt: skip


async def test_the_same_key_and_reason_is_one_record_that_counts(store: StoreUnderTest) -> None:
    """It says what the host is called by now, and since when it knocks."""
    await record(store, note(count=3), note(hostname="web-2", token_id=None, count=2))
    (found,) = await store.refusals.list_refusals(limit=10)

    assert (5, "web-2", None) == (found.count, found.hostname, found.token_id)
    assert found.first_at < found.last_at


async def test_another_reason_or_key_is_another_record(store: StoreUnderTest) -> None:
    """Written together or apart."""
    await store.refusals.record_refusals(
        [note("b"), note("a"), note("a", Refusal.TOKEN_NETWORK), note("b", Refusal.TOKEN_NETWORK)]
    )

    assert 4 == len(await store.refusals.list_refusals(limit=10))


async def test_nothing_to_record_is_nothing(store: StoreUnderTest) -> None:
    """An empty group is no error."""
    await store.refusals.record_refusals([])

    assert [] == await store.refusals.list_refusals(limit=10)


async def test_the_latest_refusal_comes_first(store: StoreUnderTest) -> None:
    """One that comes back moves to the top; no more than asked for are returned."""
    await record(store, note("a"), note("b"), note("c"), note("a"))

    assert ["a", "c", "b"] == await keys(store)
    assert ["a", "c"] == [found.key_id for found in await store.refusals.list_refusals(limit=2)]


async def test_refusals_are_found_by_token_and_by_reason(store: StoreUnderTest) -> None:
    """Or by both."""
    await record(
        store,
        note("a", Refusal.TOKEN_EXPIRED, token_id="one"),
        note("b", Refusal.TOKEN_NETWORK, token_id="one"),
        note("c", Refusal.TOKEN_NETWORK, token_id="two"),
        note("d", Refusal.TOKEN_UNKNOWN, token_id=None),
    )
    list_refusals = store.refusals.list_refusals
    network = Refusal.TOKEN_NETWORK

    assert ["b", "a"] == [found.key_id for found in await list_refusals(token_id="one", limit=10)]
    assert ["c", "b"] == [found.key_id for found in await list_refusals(reason=network, limit=10)]
    assert ["c"] == [found.key_id for found in await list_refusals(token_id="two", reason=network, limit=10)]


async def test_attack_a_flood_of_made_up_keys_displaces_only_its_like(store: StoreUnderTest) -> None:
    """The newest are kept: so many that showed a token of ours, and as many of the others."""
    await record(store, note("old"), note("honest"))
    flood = [note(f"flood-{number:02}", Refusal.TOKEN_UNKNOWN, token_id=None) for number in range(20)]
    await store.refusals.record_refusals(flood)
    await record(store, note("last", Refusal.TOKEN_UNKNOWN, token_id=None))
    await store.refusals.prune_refusals(keep=2)
    left = await keys(store)

    assert (4, "last") == (len(left), left[0])
    assert left[1].startswith("flood-")
    assert ["honest", "old"] == left[2:]


async def test_workers_that_record_the_same_refusals_at_once_lose_none(store: StoreUnderTest) -> None:
    """In whatever order their notes come."""
    notes = [note(f"key-{number}") for number in range(10)]
    await asyncio.gather(
        *(store.refusals.record_refusals(notes if number % 2 else notes[::-1]) for number in range(6))
    )

    assert {6} == {found.count for found in await store.refusals.list_refusals(limit=100)}
