"""The outages in which existing systems lose results, counted: none is lost here.

Real processes, TLS and databases. What is put while things fail is counted in the server's database
afterwards, each result and sample by its own time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path

import asyncpg
import pytest

from ct_ops_agent.assembly import BuiltAgent, built_agent
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.conversation_parts import Acknowledgement
from ct_ops_agent.daemon import run_once
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.work import CheckResult, CheckStatus
from ct_ops_proto.enrolment_token import parse_token
from ct_ops_server.config.schema import Settings
from databases import PostgresServer, fresh_database, postgres_server
from prepared_commands import Started, start
from putting_agent import config_for
from real_server import RealServer, real_server, settings_for
from wire_client import Wire
from worker_processes import worker_server

pytestmark = pytest.mark.timeout(180)

START_MS = int(time.time() - 3600) * 1000
"""Times of results, one millisecond each: recent, so that nothing is deleted for its age."""


@dataclass
class ServerProcess:
    """A server in a process of its own, at the same ports each time it is started."""

    data_dir: Path
    port: int = 0
    http_port: int = 0
    process: Started | None = None

    def __post_init__(self) -> None:
        self.port, self.http_port = free_port(), free_port()

    @property
    def server(self) -> RealServer:
        ca_pem = (self.data_dir / "server-ca.crt").read_text()
        return RealServer(settings_for(self.data_dir), Wire(self.port, ca_pem), self.http_port)

    async def start(self) -> None:
        environ = {
            "PATH": os.environ["PATH"],
            "INGEST_DATA_DIR": str(self.data_dir),
            "INGEST_GRPC_HOST": "127.0.0.1",
            "INGEST_GRPC_PORT": str(self.port),
            "INGEST_HTTP_PORT": str(self.http_port),
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


MINE = f"BETWEEN {START_MS} AND {START_MS + 1_000_000}"
COUNTS = (
    f"SELECT (SELECT count(*) FROM check_results WHERE ran_at {MINE}),"
    f" (SELECT count(*) FROM samples WHERE ts_ms {MINE}), (SELECT count(*) FROM gaps)"
)


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A running server."""
    process = ServerProcess(tmp_path / "server")
    await process.start()
    yield process
    await process.stop(signal.SIGKILL)


async def test_a_server_that_is_restarted_loses_nothing(process: ServerProcess, tmp_path: Path) -> None:
    """SIGTERM under a stream full of results, and a new start."""
    config, check_id = await enrol(process.server, tmp_path / "agent")
    async with reporting(config, check_id) as reporter:
        await reporter.back_after(0)
        await asyncio.sleep(1)
        await process.stop(signal.SIGTERM)
        await process.start()
        took_s = await reporter.back_after(time.monotonic())

    assert (reporter.put, reporter.put, 0) == counted(process.data_dir)
    assert took_s < 30


async def test_a_server_that_was_killed_and_stayed_away_loses_nothing(
    process: ServerProcess, tmp_path: Path
) -> None:
    """SIGKILL and twenty seconds down; the agent is back within seconds, not when its patience has grown."""
    config, check_id = await enrol(process.server, tmp_path / "agent")
    async with reporting(config, check_id) as reporter:
        await reporter.back_after(0)
        await asyncio.sleep(1)
        await process.stop(signal.SIGKILL)
        await asyncio.sleep(20)
        await process.start()
        took_s = await reporter.back_after(time.monotonic())

    logging.getLogger(__name__).info("back after %.1f s", took_s)
    assert (reporter.put, reporter.put, 0) == counted(process.data_dir)
    assert took_s < 15


async def test_what_a_day_offline_left_drains_beside_live_heartbeats(
    process: ServerProcess, tmp_path: Path
) -> None:
    """Vitals first: while batch after batch is stored, no heartbeat waits for more than the one under way."""
    config, check_id = await enrol(process.server, tmp_path / "agent")
    await process.stop(signal.SIGTERM)
    with built_agent(config, asyncio.Event()) as agent:
        assert agent.courier is not None
        for run in range(60):
            await agent.courier.put_samples(
                [
                    TimedSample(f'disk.used_bytes{{mount="/{each}"}}', START_MS + run * 1000, each * 1.5)
                    for each in range(500)
                ]
            )
    await process.start()
    began = time.monotonic()
    async with reporting(config, check_id) as reporter:
        reporter.is_enough = True
        await until_delivered(reporter.agent)
        took_s = time.monotonic() - began

    logging.getLogger(__name__).info("30,000 samples drained in %.1f s", took_s)
    gaps_s = [later - before for before, later in pairwise(reporter.acknowledged_at)]
    assert counted(process.data_dir)[1] >= 60 * 500
    assert len(reporter.acknowledged_at) >= 2
    assert max(gaps_s) < 10


@pytest.fixture
def fragile_postgres() -> Iterator[PostgresServer]:
    """A database server of its own: it is stopped."""
    with postgres_server() as running:
        yield running


async def test_a_database_that_stops_under_the_server_loses_nothing(
    fragile_postgres: PostgresServer, tmp_path: Path
) -> None:
    """Six seconds without it: nothing is acknowledged in vain."""
    url = await fresh_database(fragile_postgres.url)
    settings: Settings = settings_for(tmp_path / "server", url)
    async with real_server(settings) as server:
        config, check_id = await enrol(server, tmp_path / "agent")
        async with reporting(config, check_id) as reporter:
            await reporter.back_after(0)
            await asyncio.sleep(1)
            fragile_postgres.stop()
            await asyncio.sleep(6)
            fragile_postgres.start()
            await reporter.back_after(time.monotonic())
        connection = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql"))
        found = await connection.fetchrow(COUNTS)
        await connection.close()

    assert found
    assert (reporter.put, reporter.put, 0) == tuple(found)


async def test_an_agent_that_is_killed_at_any_moment_loses_nothing(
    process: ServerProcess, tmp_path: Path
) -> None:
    """SIGKILL, ten times, each somewhere in the middle of putting, freezing, sending, being acknowledged."""
    config, check_id = await enrol(process.server, tmp_path / "agent")
    said: set[int] = set()
    for number in range(10):
        said |= await put_until_killed(
            config, check_id, max(said, default=START_MS) + 2, after_s=0.5 + number * 0.13
        )
    with built_agent(config, asyncio.Event()) as agent:
        parts = living(agent)
        await until_delivered(agent)
        for part in parts:
            await end(part)

    connection = sqlite3.connect(f"file:{process.data_dir / 'ct-ops.db'}?mode=ro", uri=True)
    stored = {int(at_ms) for (at_ms,) in connection.execute("SELECT ran_at FROM check_results")}
    connection.close()
    assert said
    assert said <= stored, sorted(said - stored)


async def put_until_killed(config: AgentConfig, check_id: str, first: int, after_s: float) -> set[int]:
    """Run an agent that puts, kill it so long after its first result; return what it had said."""
    script = Path(__file__).parent.parent / "putting_agent.py"
    assert config.address
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(config.data_dir), config.address, check_id, str(first),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    begun = await process.stdout.readline()
    await asyncio.sleep(after_s)
    process.kill()
    output, errors = await process.communicate()
    assert begun, errors.decode()
    return {int(line) for line in (begun + output).splitlines(keepends=True) if line.endswith(b"\n")}


async def test_a_rolling_restart_of_two_workers_loses_nothing(postgres_url: str, tmp_path: Path) -> None:
    """Both are replaced, one after the other, under an agent that puts results all the time."""
    async with worker_server(tmp_path / "server", postgres_url) as workers:
        before = workers.workers()
        config, check_id = await enrol(workers.server, tmp_path / "agent")
        async with reporting(config, check_id) as reporter:
            await reporter.back_after(0)
            workers.tell(signal.SIGHUP)
            await workers.until_replaced(before)
            await reporter.back_after(time.monotonic())
        code = await workers.end()
    connection = await asyncpg.connect(postgres_url.replace("postgresql+asyncpg", "postgresql"))
    found = await connection.fetchrow(COUNTS)
    await connection.close()

    assert 0 == code
    assert found
    assert (reporter.put, reporter.put, 0) == tuple(found)
