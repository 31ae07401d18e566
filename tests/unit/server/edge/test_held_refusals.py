"""How late a refused Register is answered."""

from __future__ import annotations

import asyncio

from ct_ops_server.edge.held_refusals import HeldRefusals


class Clock:
    """A monotonic clock that the test advances."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def held(clock: Clock, *, at_once: int = 500) -> HeldRefusals:
    return HeldRefusals(first_s=5.0, longest_s=60.0, at_once=at_once, now_s=clock)


def test_the_first_refusal_comes_at_once_and_later_ones_ever_later() -> None:
    """A person gets an answer; a process that is started again every five seconds is slowed down."""
    refusals = held(Clock())

    assert [0.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0] == [refusals.delay_s("key") for _ in range(7)]


def test_a_key_does_not_pay_for_another() -> None:
    """One misconfigured host slows down nobody else."""
    refusals = held(Clock())
    for _ in range(5):
        refusals.delay_s("noisy")

    assert refusals.delay_s("quiet") == 0.0


def test_a_key_that_was_quiet_starts_again() -> None:
    """After five minutes of silence the next refusal is a first one."""
    clock = Clock()
    refusals = held(clock)
    refusals.delay_s("key")
    clock.now_s += 300.0
    still_remembered = refusals.delay_s("key")
    clock.now_s += 300.5

    assert (5.0, 0.0) == (still_remembered, refusals.delay_s("key"))


def test_attack_ten_thousand_keys_do_not_grow_the_memory_without_end() -> None:
    """The key that was seen longest ago is forgotten first."""
    refusals = held(Clock())
    refusals.delay_s("oldest")
    for number in range(10_000):
        refusals.delay_s(str(number))

    assert refusals.delay_s("oldest") == 0.0
    assert refusals.delay_s("9999") == 5.0


async def test_beyond_the_limit_of_held_answers_the_next_comes_at_once() -> None:
    """Holding costs a connection each, so their number has an end."""
    refusals = held(Clock(), at_once=1)
    for key in ("first", "second"):
        refusals.delay_s(key)
    waiting = asyncio.create_task(refusals.hold("first"))
    await asyncio.sleep(0)
    await asyncio.wait_for(refusals.hold("second"), 20)

    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_caller_who_leaves_while_held_makes_room_for_the_next() -> None:
    """A cancelled hold no longer counts."""
    refusals = held(Clock(), at_once=1)
    refusals.delay_s("key")
    for _ in range(2):
        waiting = asyncio.create_task(refusals.hold("key"))
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
