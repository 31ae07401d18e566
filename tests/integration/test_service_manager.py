"""What systemd hears of an agent and of a server that it has started: the real programs, a real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from real_server import RealServer
from worker_processes import environment_for


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


@contextmanager
def started(
    systemd: socket.socket, command: list[str], **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program as a unit of Type=notify with a watchdog is started."""
    notify = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "600000"}
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=os.environ | environment | notify, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def heard_until(systemd: socket.socket, line: str) -> list[str]:
    """Return every line that was told up to one that begins so."""
    lines: list[str] = []
    while not any(one.startswith(line) for one in lines):
        lines += systemd.recv(4096).decode().splitlines()
    return lines


def test_a_server_is_ready_when_agents_can_connect_feeds_the_watchdog_and_says_that_it_stops(
    systemd: socket.socket, tmp_path: Path
) -> None:
    """In this order."""
    environment = {
        "INGEST_DATA_DIR": str(tmp_path / "server"),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": "0",
        "INGEST_HTTP_PORT": "0",
        "INGEST_WEB_SERVER_CERT": "",
    }
    with started(systemd, ["ct_ops_server", "serve"], **environment) as server:
        before = heard_until(systemd, "STATUS=serving agents on port")
        heard_until(systemd, "WATCHDOG=1")
        server.send_signal(signal.SIGTERM)
        heard_until(systemd, "STOPPING=1")

        assert "READY=1" in before
        assert 0 == server.wait(60)


async def test_a_server_of_two_workers_speaks_with_one_voice(
    systemd: socket.socket, tmp_path: Path, postgres_url: str
) -> None:
    """Ready when both are; the parent feeds the watchdog, and ends when they have ended."""
    environment = environment_for(tmp_path / "server", postgres_url)
    with started(systemd, ["ct_ops_server", "serve", "--workers", "2"], **environment) as server:
        before = await asyncio.to_thread(heard_until, systemd, "STATUS=serving agents on port")
        workers = psutil.Process(server.pid).children()
        await asyncio.to_thread(heard_until, systemd, "WATCHDOG=1")
        server.send_signal(signal.SIGTERM)
        await asyncio.to_thread(heard_until, systemd, "STOPPING=1")
        code = await asyncio.to_thread(server.wait, 60)

    assert 0 == code
    assert 1 == before.count("READY=1")
    assert 2 == len(workers)
    assert not any(worker.is_running() for worker in workers)


async def test_an_agent_is_ready_before_it_is_admitted_and_tells_how_it_is(
    systemd: socket.socket, sqlite_server: RealServer, tmp_path: Path
) -> None:
    """A host that boots without its server must not time out in its unit."""
    environment = {
        "CT_OPS_ENROLMENT_TOKEN": await sqlite_server.token(),
        "CT_OPS_INGEST_ADDRESS": f"localhost:{sqlite_server.wire.port}",
        "CT_OPS_DATA_DIR": str(tmp_path / "agent"),
    }
    config = tmp_path / "agent.toml"
    config.write_text("")
    with started(systemd, ["ct_ops_agent", "run", "-config", str(config)], **environment) as agent:
        lines = await asyncio.to_thread(heard_until, systemd, "STATUS=reporting to")
        await asyncio.to_thread(heard_until, systemd, "WATCHDOG=1")
        agent.send_signal(signal.SIGTERM)
        await asyncio.to_thread(heard_until, systemd, "STOPPING=1")
        code = await asyncio.to_thread(agent.wait, 60)

    assert 0 == code
    assert lines.index("READY=1") < next(
        place for place, line in enumerate(lines) if line.startswith("STATUS=reporting to")
    )


def test_an_agent_whose_configuration_cannot_work_is_never_ready(
    systemd: socket.socket, tmp_path: Path
) -> None:
    """It ends with 78, which tells systemd not to start it again."""
    config = tmp_path / "agent.toml"
    config.write_text("[agent]\nheartbeat_interval_secs = 0\n")
    with started(systemd, ["ct_ops_agent", "run", "-config", str(config)]) as agent:
        code = agent.wait(60)
    systemd.settimeout(0)

    assert 78 == code
    with pytest.raises(BlockingIOError):
        systemd.recv(4096)
