"""The parent, with workers that are real processes and misbehave."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from ct_ops_server.workers import restarts, supervisor
from ct_ops_server.workers.sockets import SharedSockets
from ct_ops_server.workers.supervisor import Family, Supervisor, WorkersFailedError

READY_THEN = (
    "import json, os, time; os.write(json.loads(os.environ['CT_OPS_WORKER_PLACE'])['line_fd'], b'R'); "
)
PATIENCE_S = 60


@dataclass
class Parent:
    """A supervisor, and the processes that are no more."""

    running: Supervisor
    gone: asyncio.Queue[int] = field(default_factory=asyncio.Queue)


@pytest.fixture
def sockets() -> Iterator[SharedSockets]:
    """Sockets that workers inherit; nobody asks anything over them."""
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as admin:
        yield SharedSockets(grpc_port=1, http=http, admin=admin)


@asynccontextmanager
async def parent_of(
    script: str, sockets: SharedSockets, folder: Path, monkeypatch: pytest.MonkeyPatch, hung_s: float = 30.0
) -> AsyncIterator[Parent]:
    """Prepare a parent whose one worker is a script."""
    monkeypatch.setattr(supervisor, "worker_command", lambda *_, **__: (sys.executable, "-c", script))
    gone: asyncio.Queue[int] = asyncio.Queue()
    lock, other_end = os.pipe()
    family = Family(
        count=1,
        sockets=sockets,
        lock_fd=lock,
        drain_s=0.1,
        environment=dict(os.environ),
        forget=lambda pid, _folder: gone.put_nowait(pid),
        hung_s=hung_s,
    )
    try:
        yield Parent(Supervisor(family, folder), gone)
    finally:
        os.close(lock)
        os.close(other_end)


async def test_outage_a_worker_that_hangs_is_killed_and_replaced(
    sockets: SharedSockets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives, and its event loop says nothing: the kernel still gives it connections, which nobody serves."""
    hangs = READY_THEN + "time.sleep(600)"
    async with parent_of(hangs, sockets, tmp_path, monkeypatch, hung_s=0.5) as parent:
        ready = asyncio.Event()
        run = asyncio.create_task(parent.running.run(ready.set))
        async with asyncio.timeout(PATIENCE_S):
            await ready.wait()
            killed = [await parent.gone.get(), await parent.gone.get()]
        parent.running.stop()
        await run

    assert 2 == len(set(killed))
    assert not [pid for pid in killed if psutil.pid_exists(pid)]


async def test_outage_a_worker_that_dies_young_over_and_over_ends_the_server_with_a_sentence(
    sockets: SharedSockets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is helped by a server that starts its worker for ever; whoever watches it reads why."""
    monkeypatch.setattr(restarts, "_FIRST_WAIT_S", 0.001)
    async with parent_of(READY_THEN + "os._exit(3)", sockets, tmp_path, monkeypatch) as parent:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(WorkersFailedError, match=r"worker 0 ended 6 times .* exit code 3"):
                await parent.running.run(lambda: None)

        assert restarts.GIVE_UP_AFTER == parent.gone.qsize()
