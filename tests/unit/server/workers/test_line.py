"""The line between a worker and its parent."""

from __future__ import annotations

import asyncio
import socket

from ct_ops_server.workers.line import LineToParent, LineToWorker


def lines(now_s: list[float]) -> tuple[LineToParent, LineToWorker]:
    """Return both ends."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    return LineToParent(theirs), LineToWorker(ours, now_s=lambda: now_s[0])


async def test_a_parent_hears_that_its_worker_is_ready_and_when_it_spoke_last() -> None:
    """An event loop that hangs says nothing."""
    now_s = [100.0]
    worker, parent = lines(now_s)
    now_s[0] = 107.0
    worker.alive()
    worker.ready()
    async with asyncio.timeout(20):
        await parent.ready.wait()
    worker.close()
    parent.close()

    assert 107.0 == parent.heard_s


async def test_a_worker_hears_when_its_parent_is_gone() -> None:
    """However it went: the kernel closes its end."""
    worker, parent = lines([0.0])
    gone = asyncio.Event()
    worker.on_end(gone.set)
    parent.close()
    async with asyncio.timeout(20):
        await gone.wait()
    worker.alive()  # to nobody: no error
    worker.close()


async def test_a_parent_outlives_a_worker_that_is_killed_in_the_middle() -> None:
    """Its death is told by its process, not by its line."""
    worker, parent = lines([0.0])
    worker.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert not parent.ready.is_set()
    parent.close()
