"""Presence stays true when the server itself could not say goodbye."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ct_ops_server.config.schema import Settings
from prepared_commands import Started, start
from real_server import RealServer, real_server
from wire_client import Host, Wire


@dataclass(frozen=True)
class Killable:
    """A server in a process of its own."""

    server: RealServer
    process: Started

    async def kill(self) -> None:
        """End it at once: no lease is given back, no stream is closed."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def server_process(settings: Settings) -> AsyncIterator[Killable]:
    """Run the server as a process."""
    environ = {
        "PATH": os.environ["PATH"],
        "INGEST_DATA_DIR": str(settings.data_dir),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": "0",
        "INGEST_HTTP_PORT": "0",
        "DATABASE_URL": settings.database_url,
    }
    process = await start("ct_ops_server", "serve", environ=environ)
    assert process.stdout is not None
    ready = (await process.stdout.readline()).decode()
    ports = dict(word.split("=", 1) for word in ready.split() if "=" in word)
    wire = Wire(int(ports["grpc_port"]), (settings.data_dir / "server-ca.crt").read_text())
    killable = Killable(RealServer(settings, wire, int(ports["http_port"])), process)
    try:
        yield killable
    finally:
        await killable.kill()


async def until_offline(server: RealServer, host: Host) -> None:
    """Wait for the sweep."""
    async with asyncio.timeout(10):
        while (await server.agent(host))["online"]:  # noqa: ASYNC110  the server has no event to wait for
            await asyncio.sleep(0.05)


async def test_agents_of_a_killed_server_are_offline_once_its_lease_is_stale(settings: Settings) -> None:
    """The next server sweeps who did not come back, and a host that does come back is online again."""
    async with server_process(settings) as killable:
        before = killable.server
        host = await before.enrolled("left-behind")
        async with before.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            await stream.read()
            during = await before.agent(host)
            await killable.kill()
    async with real_server(settings) as after:
        await until_offline(after, host)
        async with after.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            await stream.read()
            back = await after.agent(host)
            await stream.done_writing()
            await stream.read()

    assert (True, True) == (during["online"], back["online"])
