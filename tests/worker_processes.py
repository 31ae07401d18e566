"""A server of several worker processes, started as operators start it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from real_server import RealServer, settings_for
from wire_client import Wire

_PATIENCE_S = 60


@dataclass(frozen=True)
class WorkerServer:
    """The parent's process, and the server that it and its workers are."""

    process: asyncio.subprocess.Process
    server: RealServer

    def workers(self) -> list[int]:
        """Return the process ids of the workers that live."""
        return sorted(_children(self.process.pid))

    def connections(self, worker: int) -> int:
        """Return how many agents' connections a worker holds."""
        here = self.server.wire.port
        found = psutil.Process(worker).net_connections("tcp")
        return sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == here for each in found)

    async def until_replaced(self, before: list[int]) -> None:
        """Wait until as many others serve."""
        async with asyncio.timeout(_PATIENCE_S):
            while len(self.workers()) < len(before) or set(self.workers()) & set(before):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the parent."""
        self.process.send_signal(number)

    async def kill_amid(self, asking: Coroutine[object, object, object], processes: Iterable[int]) -> None:
        """Ask for something and kill these at once, without waiting for the answer."""
        asked = asyncio.create_task(asking)
        await asyncio.sleep(0.01)
        for process in processes:
            os.kill(process, signal.SIGKILL)
        with suppress(httpx.HTTPError, ValueError, KeyError):
            await asyncio.wait_for(asked, _PATIENCE_S)

    async def end(self) -> int:
        """Stop it as systemd does; return its exit code."""
        self.tell(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), _PATIENCE_S)


def environment_for(data_dir: Path, database_url: str, **more: str) -> dict[str, str]:
    """Return the environment of a server on loopback."""
    mine = {
        "INGEST_DATA_DIR": str(data_dir),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": "0",
        "INGEST_HTTP_PORT": "0",
        "INGEST_WEB_SERVER_CERT": "",
        "AGENT_DIST_DIR": str(data_dir / "agent-dist"),
        "DATABASE_URL": database_url,
    }
    return dict(os.environ) | mine | more


@asynccontextmanager
async def worker_server(
    data_dir: Path, database_url: str, workers: int = 2, **more: str
) -> AsyncIterator[WorkerServer]:
    """Run ``serve --workers`` for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ct_ops_server", "serve", "--workers", str(workers)),
        env=environment_for(data_dir, database_url, **more),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), _PATIENCE_S)).decode()
        ports = dict(word.split("=") for word in line.split()[1:])
        ca_pem = (data_dir / "server-ca.crt").read_text()
        wire = Wire(int(ports["grpc_port"]), ca_pem)
        yield WorkerServer(
            process, RealServer(settings_for(data_dir, database_url), wire, int(ports["http_port"]))
        )
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _PATIENCE_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _children(parent: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        state, ppid = status.rpartition(")")[2].split()[:2]
        if int(ppid) == parent and state != "Z":
            yield int(entry.name)
