"""Waiting with an end: when it ends, whom it cancels, and how many timers that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ct_ops_server.edge.patience import Patience


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def soon() -> str:
    await asyncio.sleep(0)
    return "done"


async def test_an_answer_in_time_is_returned() -> None:
    """Also when it is there at once, and again and again."""
    with Patience() as patience:
        assert ["done"] * 3 == [await patience.wait(soon(), 20) for _ in range(3)]


async def test_what_takes_too_long_is_cancelled_and_the_next_wait_has_its_own_time() -> None:
    """The task itself is as good as new."""
    with Patience() as patience:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await patience.wait(never(), 0.01)
        assert "done" == await patience.wait(soon(), 20)
    task = asyncio.current_task()
    assert task is not None
    assert 0 == task.cancelling()


async def test_a_short_wait_after_a_long_one_ends_in_its_own_time() -> None:
    """The timer of the long one would ring too late."""
    with Patience() as patience:
        await patience.wait(soon(), 1_000)
        with pytest.raises(TimeoutError):
            await patience.wait(never(), 0.01)


async def test_a_long_wait_after_a_short_one_is_not_cut() -> None:
    """The timer of the short one rings while the long one waits, and is set again."""
    with Patience() as patience:
        await patience.wait(soon(), 0.02)
        assert "late" == await patience.wait(asyncio.sleep(0.06, "late"), 20)


async def test_a_timer_that_rings_while_nobody_waits_harms_nobody() -> None:
    """What the task does between its waits has no end set."""
    with Patience() as patience:
        await patience.wait(soon(), 0.01)
        await asyncio.sleep(0.03)
        with pytest.raises(TimeoutError):
            await patience.wait(never(), 0.01)


async def test_a_task_that_others_cancel_is_cancelled() -> None:
    """Not told of a time that was never over."""

    async def waiting() -> None:
        with Patience() as patience:
            await patience.wait(never(), 20)

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_is_the_answers_own() -> None:
    """Patience changes nothing about it."""

    async def failing() -> None:
        raise KeyError("x")

    with Patience() as patience, pytest.raises(KeyError):
        await patience.wait(failing(), 20)


async def test_a_thousand_waits_take_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the end of the block takes back."""
    timers: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def counted(when: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        timers.append(call_at(when, callback, *args))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", counted)

    def again() -> Awaitable[str]:
        return patience.wait(soon(), 20)

    with Patience() as patience:
        for _ in range(1_000):
            await again()
    assert [True] == [timer.cancelled() for timer in timers]
