"""A rolling restart of two nodes behind a balancer: agents move from one to the other, and nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from outages import ServerProcess, counted_on_postgres, enrol, reporting
from real_server import RealServer
from wire_client import Wire

pytestmark = pytest.mark.timeout(180)


@asynccontextmanager
async def balancer(nodes: Sequence[ServerProcess]) -> AsyncIterator[int]:
    """Forward each connection to the first node that takes it, as a TCP balancer does; yield the port."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while read := await reader.read(65_536):
                writer.write(read)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for node in nodes:
            with suppress(OSError):
                node_reader, node_writer = await asyncio.open_connection("127.0.0.1", node.port)
                async with asyncio.TaskGroup() as both:
                    both.create_task(forward(reader, node_writer))
                    both.create_task(forward(node_reader, writer))
                return
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    server.close()


@asynccontextmanager
async def two_nodes(folder: Path, database_url: str) -> AsyncIterator[tuple[ServerProcess, ServerProcess]]:
    """Run two nodes of one installation, each a process of its own."""
    first = ServerProcess(folder / "one", database_url)
    try:
        await first.start()
        shutil.copytree(folder / "one", folder / "two", ignore=shutil.ignore_patterns("*.sock", "*.lock"))
        second = ServerProcess(folder / "two", database_url)
        try:
            await second.start()
            yield first, second
        finally:
            await second.stop(signal.SIGKILL)
    finally:
        await first.stop(signal.SIGKILL)


async def test_a_rolling_restart_of_two_nodes_loses_nothing(postgres_url: str, tmp_path: Path) -> None:
    """One is restarted after the other under an agent that puts results all the time."""
    async with two_nodes(tmp_path, postgres_url) as nodes, balancer(nodes) as port:
        first, _ = nodes
        through = RealServer(first.server.settings, Wire(port, first.server.wire.ca_pem), first.http_port)
        config, check_id = await enrol(through, tmp_path / "agent")
        async with reporting(config, check_id) as reporter:
            await reporter.back_after(0)
            for node in nodes:
                await node.stop(signal.SIGTERM)
                await reporter.back_after(time.monotonic())  # on the other one, while this one is away
                await node.start()
            await reporter.back_after(time.monotonic())

    assert (reporter.put, reporter.put, 0) == await counted_on_postgres(postgres_url)
