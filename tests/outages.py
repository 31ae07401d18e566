"""What outages are tried on: servers in processes of their own, and an agent that puts results all the time.

Each result and sample has a time of its own, so that a test can count afterwards what is in the server's database.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import asyncpg

from ct_ops_agent.assembly import BuiltAgent, built_agent
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.conversation_parts import Acknowledgement
from ct_ops_agent.daemon import run_once
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.work import CheckResult, CheckStatus
from ct_ops_proto.enrolment_token import parse_token
from prepared_commands import Started, start
from putting_agent import config_for
from real_server import RealServer, settings_for
from wire_client import Wire

START_MS = int(time.time() - 3600) * 1000
"""Times of results, one millisecond each: recent, so that nothing is deleted for its age."""


@dataclass
class ServerProcess:
    """A server in a process of its own, at the same ports each time it is started."""

    data_dir: Path
    database_url: str = ""
    port: int = 0
    http_port: int = 0
    process: Started | None = None

    def __post_init__(self) -> None:
        self.port, self.http_port = free_port(), free_port()

    @property
    def server(self) -> RealServer:
        ca_pem = (self.data_dir / "server-ca.crt").read_text()
        return RealServer(
            settings_for(self.data_dir, self.database_url), Wire(self.port, ca_pem), self.http_port
        )

    async def start(self) -> None:
        environ = {
            "PATH": os.environ["PATH"],
            "INGEST_DATA_DIR": str(self.data_dir),
            "INGEST_GRPC_HOST": "127.0.0.1",
            "INGEST_GRPC_PORT": str(self.port),
            "INGEST_HTTP_PORT": str(self.http_port),
            "DATABASE_URL": self.database_url,
        }
        self.process = await start("ct_ops_server", "serve", environ=environ)
        assert self.process.stdout is not None
        assert b"grpc_port" in await self.process.stdout.readline()

    async def stop(self, how: signal.Signals) -> None:
        if self.process and self.process.returncode is None:
            self.process.send_signal(how)
            await self.process.wait()


@dataclass
class Reporter:
    """An agent in this process that puts results and samples all the time."""

    agent: BuiltAgent
    check_id: str
    put: int = 0
    is_enough: bool = False
    acknowledged_at: list[float] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep_putting(self) -> None:
        """A result and a sample every 40 ms, whatever the server is at."""
        courier = self.agent.courier
        assert courier is not None
        for number in count():
            if self.is_enough:
                return
            at_ms = START_MS + number
            await courier.put(CheckResult(self.check_id, CheckStatus.PASS, "ok", 1, at_ms))
            await courier.put_samples([TimedSample("uptime.seconds", at_ms, 1.0, "s")])
            self.put = number + 1
            await asyncio.sleep(0.04)

    def note(self, _news: Acknowledgement) -> None:
        self.acknowledged_at.append(time.monotonic())
        self.news.set()

    async def back_after(self, moment: float) -> float:
        """Wait for the first heartbeat that was acknowledged after a moment; return how long it took."""
        async with asyncio.timeout(60):
            while not self.acknowledged_at or self.acknowledged_at[-1] <= moment:
                self.news.clear()
                await self.news.wait()
        return next(at for at in self.acknowledged_at if at > moment) - moment


@asynccontextmanager
async def reporting(config: AgentConfig, check_id: str) -> AsyncIterator[Reporter]:
    """Run an agent that beats five times a second, until everything it put is acknowledged."""
    due = asyncio.Event()
    with built_agent(config, due) as agent:
        reporter = Reporter(agent, check_id)
        acknowledged = agent.lifecycle.acknowledged

        def note(news: Acknowledgement) -> None:
            reporter.note(news)
            acknowledged(news)

        agent.lifecycle.acknowledged = note  # type: ignore[method-assign]  # watched, not replaced
        putting = asyncio.create_task(reporter.keep_putting())
        others = [asyncio.create_task(beat(due)), *living(agent)]
        try:
            yield reporter
            reporter.is_enough = True  # not cut off: a result that was put must also have been counted
            await putting
            await until_delivered(agent)
        finally:
            for task in (putting, *others):
                await end(task)


def living(agent: BuiltAgent) -> list[asyncio.Task[None]]:
    """Run its stream and its workshop, which ends the checks that the stream brought."""
    assert agent.workshop is not None
    return [asyncio.create_task(part.run()) for part in (agent.workshop, agent.lifecycle)]


async def beat(due: asyncio.Event) -> None:
    while True:
        due.set()
        await asyncio.sleep(0.2)


async def until_delivered(agent: BuiltAgent) -> None:
    """Wait until nothing waits in the outbox any more."""
    assert agent.courier is not None
    async with asyncio.timeout(60):
        while True:
            await agent.courier.look()
            figures = agent.courier.report.figures
            if (figures.results, figures.samples, figures.batches) == (0, 0, 0):
                return
            await asyncio.sleep(0.1)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def enrol(server: RealServer, data_dir: Path) -> tuple[AgentConfig, str]:
    """Enrol an agent and define a check for it; return its configuration and the check's id."""
    config = config_for(data_dir, f"127.0.0.1:{server.wire.port}")
    await run_once(replace(config, enrolment_token=parse_token(await server.token())))
    body = {"actor": "test", "type": "port", "config": {"host": "127.0.0.1", "port": 1}, "interval_s": 3600}
    (agent,) = await server.ask("GET", "/v1/agents")
    return config, str((await server.ask("POST", f"/v1/agents/{agent['id']}/checks", body))["id"])


def counted(data_dir: Path) -> tuple[int, int, int]:
    """Return results, samples and gaps in a SQLite database: of those that this test put."""
    connection = sqlite3.connect(f"file:{data_dir / 'ct-ops.db'}?mode=ro", uri=True)
    try:
        row = connection.execute(COUNTS).fetchone()
    finally:
        connection.close()
    return int(row[0]), int(row[1]), int(row[2])


async def counted_on_postgres(url: str) -> tuple[int, int, int]:
    """Return the same of a PostgreSQL database."""
    connection = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql"))
    try:
        row = await connection.fetchrow(COUNTS)
    finally:
        await connection.close()
    assert row
    return int(row[0]), int(row[1]), int(row[2])


MINE = f"BETWEEN {START_MS} AND {START_MS + 1_000_000}"
COUNTS = (
    f"SELECT (SELECT count(*) FROM check_results WHERE ran_at {MINE}),"
    f" (SELECT count(*) FROM samples WHERE ts_ms {MINE}), (SELECT count(*) FROM gaps)"
)
