"""The outages in which existing systems lose results, counted: none is lost here.

Real processes, TLS and databases. What is put while things fail is counted in the server's database
afterwards, each result and sample by its own time.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ct_ops_agent.assembly import built_agent
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.samples import TimedSample
from ct_ops_server.config.schema import Settings
from databases import PostgresServer, fresh_database, postgres_server
from outages import (
    START_MS,
    ServerProcess,
    counted,
    counted_on_postgres,
    end,
    enrol,
    living,
    reporting,
    until_delivered,
)
from real_server import real_server, settings_for
from worker_processes import worker_server

pytestmark = pytest.mark.timeout(180)


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
        found = await counted_on_postgres(url)

    assert (reporter.put, reporter.put, 0) == found


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

    assert 0 == code
    assert (reporter.put, reporter.put, 0) == await counted_on_postgres(postgres_url)
