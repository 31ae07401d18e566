"""Groups, and how they are taken apart: decisions without a database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.faults import Fault
from ct_ops_server.store.grouping import MAX_TRIES, Entry, Pace, Part, PendingWrites, Plan, WriterLimits


class Nothing:
    """A kind of write that is never stored."""

    name = "nothing"

    async def apply(self, connection: AsyncConnection, writes: Sequence[object]) -> Sequence[object]:
        raise NotImplementedError


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    running = asyncio.new_event_loop()
    yield running
    running.close()


def entry(loop: asyncio.AbstractEventLoop, write: object, key: str | None = None, weight: int = 1) -> Entry:
    return Entry(Nothing(), write, key, loop.create_future(), weight)


def pending(loop: asyncio.AbstractEventLoop, *pairs: tuple[str | None, int]) -> PendingWrites:
    waiting = PendingWrites(limit=100)
    for key, write in pairs:
        assert waiting.offer(entry(loop, write, key))
    return waiting


def writes(entries: Sequence[Entry]) -> list[Any]:
    return [one.write for one in entries]


def test_a_group_holds_one_write_of_an_agent(loop: asyncio.AbstractEventLoop) -> None:
    """An agent's further writes wait for the next groups, in order."""
    waiting = pending(loop, ("a", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5))

    assert [[1, 3], [2, 5], [4], []] == [writes(waiting.take(10)) for _ in range(4)]


def test_writes_of_nobody_share_a_group(loop: asyncio.AbstractEventLoop) -> None:
    """Commands mind no order."""
    waiting = pending(loop, (None, 1), (None, 2), ("a", 3))

    assert [1, 2, 3] == writes(waiting.take(10))


def test_a_group_is_no_larger_than_its_limit(loop: asyncio.AbstractEventLoop) -> None:
    """First come, first served."""
    waiting = pending(loop, *((str(number), number) for number in range(5)))

    assert [[0, 1], [2, 3], [4]] == [writes(waiting.take(2)) for _ in range(3)]


def test_a_full_queue_takes_nothing_more(loop: asyncio.AbstractEventLoop) -> None:
    """Memory is bounded by turning writes away."""
    waiting = PendingWrites(limit=1)

    assert [True, False] == [waiting.offer(entry(loop, number)) for number in range(2)]
    assert 1 == len(waiting)


def test_light_writes_never_wait_for_heavy_ones(loop: asyncio.AbstractEventLoop) -> None:
    """A heartbeat is in the next group, however many batches came before it."""
    waiting = PendingWrites(limit=100, backlog=1_000)
    for number in range(10):
        waiting.offer(entry(loop, number, f"h{number}", weight=50))
    waiting.offer(entry(loop, "heartbeat", "a"))

    assert ["heartbeat", 0, 1] == writes(waiting.take(100))


def test_a_heavy_write_gets_its_turn_beside_any_number_of_light_ones(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """One a group: a busy server still takes batches."""
    waiting = pending(loop, *((str(number), number) for number in range(6)))
    for weight in (90, 80):
        waiting.offer(entry(loop, f"heavy {weight}", f"h{weight}", weight))

    assert [[0, 1, 2, "heavy 90"], [3, 4, 5, "heavy 80"]] == [writes(waiting.take(3)) for _ in range(2)]


def test_a_group_with_heavy_writes_is_about_as_heavy_as_any_other(loop: asyncio.AbstractEventLoop) -> None:
    """What an agent sends may make one write late, never a transaction endless."""
    waiting = PendingWrites(limit=100, backlog=10_000)
    for number in range(20):
        waiting.offer(entry(loop, number, f"h{number}", weight=40))
    sizes = [len(waiting.take(100)) for _ in range(7)]

    assert [3, 3, 3, 3, 3, 3, 2] == sizes
    assert (0, 0.0) == (waiting.weight, waiting.load)


def test_heavy_writes_have_room_of_their_own(loop: asyncio.AbstractEventLoop) -> None:
    """When it is taken, light ones still find theirs; and one heavy write fits whatever its weight."""
    waiting = PendingWrites(limit=1, backlog=100)
    offers = [waiting.offer(entry(loop, number, str(number), 60)) for number in range(2)]
    light = [waiting.offer(entry(loop, number)) for number in range(2)]
    alone = PendingWrites(limit=1, backlog=10)

    assert ([True, False], [True, False]) == (offers, light)
    assert 0.6 == waiting.load
    assert alone.offer(entry(loop, "giant", "g", 5_000))
    assert 1.0 == alone.load


def test_an_agent_has_one_write_in_a_group_whichever_lane_it_is_in(loop: asyncio.AbstractEventLoop) -> None:
    """Its heartbeat and its batch change the same row."""
    waiting = PendingWrites(limit=10)
    waiting.offer(entry(loop, "batch", "a", 9))
    waiting.offer(entry(loop, "heartbeat", "a"))

    assert [["heartbeat"], ["batch"]] == [writes(waiting.take(10)) for _ in range(2)]


def test_a_write_that_nobody_waits_for_is_left_out(loop: asyncio.AbstractEventLoop) -> None:
    """A caller that has gone away costs nothing."""
    waiting = pending(loop, ("a", 1))
    gone = entry(loop, 2, "b")
    waiting.offer(gone)
    gone.result.cancel()

    assert [1] == writes(waiting.take(10))


@given(st.integers(1, 200), st.data())
def test_whoever_is_to_blame_is_given_up_and_nobody_else(size: int, data: st.DataObject) -> None:
    """Whatever the culprits, all others are committed once, none is lost, none is tried in vain."""
    culprits = data.draw(st.sets(st.integers(0, size - 1), max_size=8))
    loop = asyncio.new_event_loop()
    plan = Plan([entry(loop, number) for number in range(size)])
    committed: list[int] = []
    refused: list[int] = []
    attempts = 0
    while part := plan.take():
        attempts += 1
        if culprits.isdisjoint(writes(part.entries)):
            committed += writes(part.entries)
        else:
            refused += writes(plan.failed(part, Fault.REFUSED))
    loop.close()

    assert sorted(culprits) == refused
    assert sorted(set(range(size)) - culprits) == committed
    assert attempts <= 1 + 2 * len(culprits) * size.bit_length()


def test_without_a_database_nobody_else_is_tried(loop: asyncio.AbstractEventLoop) -> None:
    """An outage found half-way gives up the half that failed and all that is left."""
    plan = Plan([entry(loop, number) for number in range(8)])
    whole = plan.take()
    assert whole is not None
    assert [] == plan.failed(whole, Fault.REFUSED)
    half = plan.take()
    assert half is not None

    assert list(range(8)) == writes(plan.failed(half, Fault.UNAVAILABLE))
    assert plan.take() is None


def test_a_conflict_is_tried_again_a_few_times(loop: asyncio.AbstractEventLoop) -> None:
    """A deadlock's loser usually wins the next time; but not for ever."""
    plan = Plan([entry(loop, number) for number in range(3)])
    tries: list[Part] = []
    given_up: Sequence[Entry] = []
    while part := plan.take():
        tries.append(part)
        given_up = plan.failed(part, Fault.CONFLICT)

    assert [[0, 1, 2]] * MAX_TRIES == [writes(part.entries) for part in tries]
    assert [0, 1, 2] == writes(given_up)


def test_an_empty_group_has_no_parts() -> None:
    """Everybody may have gone away."""
    assert Plan([]).take() is None


LIMITS = WriterLimits(commit_share=0.2, free_commits_s=0.1, gather_s=0.1)


def test_a_lone_commit_is_due_at_once() -> None:
    """Nobody waits for company that does not come."""
    pace = Pace(LIMITS)
    for second in range(10):
        pace.spent(0.01, now_s=float(second))

    assert pace.pause(now_s=9.0) == 0


def test_commits_under_load_get_their_share_of_the_time() -> None:
    """After the free burst, a commit of 10 ms is followed by a pause of 40."""
    pace = Pace(LIMITS)
    now_s, paused_s = 0.0, 0.0
    for _ in range(1_000):
        pause = pace.pause(now_s=now_s)
        paused_s += pause
        now_s += pause + 0.01
        pace.spent(0.01, now_s=now_s)

    assert paused_s / 1_000 == pytest.approx(0.04, rel=0.05)


def test_no_write_waits_longer_than_the_limit() -> None:
    """Slow commits make for long pauses, but no longer than this."""
    pace = Pace(LIMITS)
    pace.spent(60.0, now_s=60.0)

    assert pace.pause(now_s=60.0) == pytest.approx(0.1)


def test_one_pause_pays_for_a_storm() -> None:
    """A storm of commits does not slow down the calm after it."""
    pace = Pace(LIMITS)
    pace.spent(60.0, now_s=60.0)

    assert pace.pause(now_s=60.1) == pytest.approx(0.0, abs=1e-9)
