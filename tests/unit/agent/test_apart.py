"""Blocking work that may hang for ever."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ct_ops_agent.apart import Apart


async def test_what_the_call_returns_is_returned() -> None:
    """And it is not alive any more in that moment, so that it can be started again at once."""
    call = Apart("test", lambda: 42)

    assert (42, False) == (await call.wait(10), call.is_alive)


async def test_what_the_call_raises_is_raised() -> None:
    """Where it is waited for."""
    with pytest.raises(ZeroDivisionError):
        await Apart("test", lambda: 1 // 0).wait(10)


async def test_a_call_that_hangs_is_left_behind() -> None:
    """It is known to be there, and its end disturbs nobody."""
    release = threading.Event()
    call = Apart("test", lambda: release.wait(30))

    with pytest.raises(TimeoutError):
        await call.wait(0.01)
    was_alive = call.is_alive
    release.set()

    assert was_alive
    assert await call.wait(10)


async def test_who_waits_may_be_cancelled() -> None:
    """The thread goes on; what it raises later is nobody's."""
    release = threading.Event()

    def fail() -> None:
        release.wait(30)
        raise OSError("late")

    call = Apart("test", fail)
    waiting = asyncio.ensure_future(call.wait(10))
    await asyncio.sleep(0)
    waiting.cancel()
    release.set()

    with pytest.raises(OSError, match="late"):
        await call.wait(10)


def test_a_thread_may_outlive_its_loop() -> None:
    """A daemon that stops does not wait for what hangs, and what hangs does not fall over its end."""
    release, threads = threading.Event(), list[threading.Thread]()

    async def leave() -> None:
        call = Apart("outlives", lambda: release.wait(30))
        threads.extend(thread for thread in threading.enumerate() if thread.name == "outlives")
        with pytest.raises(TimeoutError):
            await call.wait(0.01)

    asyncio.run(leave())
    release.set()
    threads[0].join(10)

    assert threads[0].daemon
    assert not threads[0].is_alive()
