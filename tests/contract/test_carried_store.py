"""What ``enrolment.carried_ports.CarriedStore`` promises: an id is spent once, whoever asks."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from contract.values import StoreUnderTest
from ct_ops_server.enrolment.carried_ports import AnsweredRequest

ANSWERED = AnsweredRequest(
    request_id="0" * 32, digest=b"d" * 32, key_id="key-a", agent_id="a", leaf_sha256=b"l" * 32, actor="anna"
)


async def test_a_request_that_was_never_answered_is_unknown(store: StoreUnderTest) -> None:
    """Nothing is there before the first leaf is given out."""
    assert await store.carried.find_answered(ANSWERED.request_id) is None


async def test_an_answered_request_is_found_as_it_was(store: StoreUnderTest) -> None:
    """Digest, key, agent, leaf and who had it signed."""
    recorded = await store.carried.record_answered(ANSWERED)

    assert recorded
    assert ANSWERED == await store.carried.find_answered(ANSWERED.request_id)


async def test_attack_an_id_is_not_spent_a_second_time(store: StoreUnderTest) -> None:
    """Whatever the second request says, what the first one was given stays on record."""
    await store.carried.record_answered(ANSWERED)
    again = await store.carried.record_answered(replace(ANSWERED, agent_id="b", digest=b"x" * 32))

    assert not again
    assert ANSWERED == await store.carried.find_answered(ANSWERED.request_id)


async def test_the_same_answer_may_go_out_again(store: StoreUnderTest) -> None:
    """The stick was lost; who had it signed first stays on record."""
    outcomes = [
        await store.carried.record_answered(replace(ANSWERED, actor=actor)) for actor in ("anna", "bob")
    ]

    assert [True, True] == outcomes
    assert ANSWERED == await store.carried.find_answered(ANSWERED.request_id)


async def test_attack_the_same_request_is_not_answered_with_another_leaf(store: StoreUnderTest) -> None:
    """Whatever its agent was given since."""
    await store.carried.record_answered(ANSWERED)

    assert not await store.carried.record_answered(replace(ANSWERED, leaf_sha256=b"m" * 32))


async def test_attack_of_many_requests_under_one_id_at_once_one_is_answered(store: StoreUnderTest) -> None:
    """Two operators with two sticks that say the same id."""
    requests = [replace(ANSWERED, digest=bytes([number]) * 32) for number in range(5)]
    outcomes = await asyncio.gather(*map(store.carried.record_answered, requests))

    assert [False] * 4 + [True] == sorted(outcomes)
