"""Several workers on one port are one server: to agents, to operators, to Prometheus and to whoever stops it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from ct_ops_server.audit.examination import examine
from ct_ops_server.audit.reading import DIRECTORY, audit_files, read_all, read_entries
from databases import PostgresServer, drop_database, fresh_database
from real_server import RealServer
from wire_client import HeartbeatStream, Host, Wire, next_reply, reason_of
from worker_processes import WorkerServer, environment_for, worker_server

_PATIENCE_S = 60


@pytest.fixture(scope="module")
async def workers(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[WorkerServer]:
    """Two workers, shared by the tests of this file that leave them as they were."""
    url = await fresh_database(postgres.url)
    async with worker_server(tmp_path_factory.mktemp("workers") / "server", url) as running:
        yield running
    await drop_database(url)


@asynccontextmanager
async def connected(wire: Wire, host: Host) -> AsyncIterator[HeartbeatStream]:
    """Yield a stream whose first frame was acknowledged."""
    async with wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        await next_reply(stream)
        yield stream
        stream.cancel()


async def figure(server: RealServer, name: str) -> float:
    """Return the sum of a metric's series."""
    text = (await server.get("/metrics")).text
    values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, values))


async def until_figure(server: RealServer, name: str, wanted: float) -> None:
    """Wait for a metric to have a value."""
    async with asyncio.timeout(_PATIENCE_S):
        while await figure(server, name) != wanted:  # noqa: ASYNC110  it has no event to wait for
            await asyncio.sleep(0.05)


async def streams_of_both_workers(
    stack: AsyncExitStack, workers: WorkerServer, name: str
) -> list[tuple[Host, HeartbeatStream]]:
    """Return connected hosts, as many as it takes until each worker has one: the kernel spreads them as it likes."""
    server = workers.server
    connections: list[tuple[Host, HeartbeatStream]] = []
    while not all(workers.connections(process) for process in workers.workers()):
        host = await server.enrolled(f"{name}-{len(connections)}")
        connections.append((host, await stack.enter_async_context(connected(server.wire, host))))
        assert len(connections) < 40, "the kernel does not spread connections"
    return connections


async def test_one_scrape_shows_the_agents_of_all_workers(workers: WorkerServer) -> None:
    """Gauges are added up, whichever worker is asked; so are counters."""
    server = workers.server
    async with AsyncExitStack() as stack:
        agents = len(await streams_of_both_workers(stack, workers, "scraped"))
        await until_figure(server, "ct_ops_heartbeat_streams", agents)
        scrapes = {await figure(server, "ct_ops_heartbeat_streams") for _ in range(10)}

    assert {agents} == scrapes
    assert 1 == await figure(server, "ct_ops_database_up"), "one figure, the worst worker's"
    assert agents <= await figure(server, "ct_ops_heartbeats_total")
    await until_figure(server, "ct_ops_heartbeat_streams", 0)


async def test_a_killed_worker_takes_nobody_with_it_and_is_replaced(workers: WorkerServer) -> None:
    """The other one's streams go on; its own agents reconnect and are online; what it counted stays counted."""
    server = workers.server
    before = workers.workers()
    async with AsyncExitStack() as stack:
        connections = await streams_of_both_workers(stack, workers, "killed")
        counted = await figure(server, "ct_ops_heartbeats_total")
        os.kill(before[0], signal.SIGKILL)
        lost = [host for host, stream in connections if not await still_served(host, stream)]
        for host in lost:
            await stack.enter_async_context(connected(server.wire, host))
        await until_figure(server, "ct_ops_heartbeat_streams", len(connections))
        shown = [await server.agent(host) for host, _ in connections]
        await workers.until_replaced(before[:1])

    assert 0 < len(lost) < len(connections)
    assert all(agent["online"] for agent in shown)
    assert counted <= await figure(server, "ct_ops_heartbeats_total")
    assert before[0] not in workers.workers()


async def still_served(host: Host, stream: HeartbeatStream) -> bool:
    """Return whether a stream answers a frame."""
    try:
        await stream.write(host.first_frame())
        return await stream.read() is not grpc.aio.EOF
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return False


def test_sqlite_is_served_by_one_worker_and_says_so(tmp_path: Path) -> None:
    """Refused before anything is made, with what to do."""
    command = [sys.executable, "-m", "ct_ops_server", "serve", "--workers", "2"]
    url = f"sqlite:///{tmp_path}/server/ct-ops.db"
    ended = subprocess.run(
        command,
        check=False,
        env=environment_for(tmp_path / "server", url),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert 78 == ended.returncode
    assert "INGEST_WORKERS" in ended.stderr
    assert "PostgreSQL" in ended.stderr
    assert not (tmp_path / "server").exists()


def test_what_keeps_the_first_worker_from_starting_ends_the_server_with_its_code(tmp_path: Path) -> None:
    """Not tried again and again: nobody has been served yet, and whoever started it reads the reason."""
    command = [sys.executable, "-m", "ct_ops_server", "serve", "--workers", "2"]
    environment = environment_for(tmp_path / "server", "postgresql://nobody@127.0.0.1:1/none")
    ended = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)

    assert 69 == ended.returncode
    assert "worker 0 did not start" in ended.stderr
    assert not (tmp_path / "server" / "admin.sock").exists()


async def test_workers_write_one_audit_log_whoever_of_them_is_killed(workers: WorkerServer) -> None:
    """One of them writes the files of the data directory; killed, another one goes on, without a gap or a repetition."""
    server = workers.server
    hosts = [await server.enrolled("audited-0")]
    for number, worker in enumerate(workers.workers(), 1):
        os.kill(worker, signal.SIGKILL)
        await workers.until_replaced([worker])
        hosts.append(await server.enrolled(f"audited-{number}"))
    folder = server.settings.data_dir / DIRECTORY

    def admitted() -> set[str]:
        return {entry.agent for entry in read_entries(audit_files(folder))}

    async with asyncio.timeout(_PATIENCE_S):
        while not {host.agent_id for host in hosts} <= admitted():  # noqa: ASYNC110  it has no event to wait for
            await asyncio.sleep(0.05)

    assert [] == examine(read_all(audit_files(folder)), keys=[]).breaks
    assert 0 == await figure(server, "ct_ops_audit_files_failing")


async def test_sigterm_tells_agents_to_come_back_within_a_time_and_ends_with_0(workers: WorkerServer) -> None:
    """The last test of the file: it stops what the others share."""
    async with AsyncExitStack() as stack:
        connections = await streams_of_both_workers(stack, workers, "stopped")
        endings = [asyncio.ensure_future(ending_of(stream)) for _, stream in connections]
        code = await workers.end()
        told = await asyncio.gather(*endings)

    assert 0 == code
    assert {(grpc.StatusCode.UNAVAILABLE, "server_stopping", True)} == set(told)


async def ending_of(stream: HeartbeatStream) -> tuple[grpc.StatusCode, str, bool]:
    """Return how a stream was ended, and whether it was told when to come back."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stream.read()
    metadata = dict(refusal.value.trailing_metadata() or ())
    return refusal.value.code(), reason_of(refusal.value), "ct-ops-reconnect-within-ms" in metadata
