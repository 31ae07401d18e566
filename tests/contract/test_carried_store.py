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


async def test_of_two_at_once_one_spends_the_id(store: StoreUnderTest) -> None:
    """Two operators with copies of one stick."""
    outcomes = await asyncio.gather(*(store.carried.record_answered(ANSWERED) for _ in range(5)))

    assert [False] * 4 + [True] == sorted(outcomes)
