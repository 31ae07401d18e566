"""Push: how long it takes from an operator's wish to the agent's stream, with every agent connected.

    python bench/push.py [--agents 100] [--asks 300] [--database sqlite|postgresql] [--servers 1|2]

Starts servers of its own on loopback (and a PostgreSQL of its own, fsync on), connects hosts made of plain grpcio,
each on its own TLS connection, asks one of them after the other through the admin socket, and stops everything. With
two servers the questions are asked of the one and the agents are on the other. Servers, hosts and the database share
the machine's cores; both ends of a time are taken by this process's clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import httpx
from heartbeats import machine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from databases import fresh_database, postgres_server
from wire_client import Host, Wire
from work_wire import Connected, connected

_ENROLLED_AT_ONCE = 16


@click.command()
@click.option("--agents", default=100, show_default=True)
@click.option("--asks", default=300, show_default=True)
@click.option("--pause", default=0.03, show_default=True, help="Seconds between two wishes.")
@click.option("--database", type=click.Choice(["sqlite", "postgresql"]), default="sqlite", show_default=True)
@click.option("--servers", type=click.IntRange(1, 2), default=1, show_default=True)
def bench(*, agents: int, asks: int, pause: float, database: str, servers: int) -> None:
    """Measure pushes."""
    if servers > 1 and database == "sqlite":
        raise click.UsageError("two servers need PostgreSQL")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ct-ops-bench-")))
        url = ""
        if database == "postgresql":
            url = asyncio.run(fresh_database(stack.enter_context(postgres_server()).url))
        click.echo(machine(database))
        asked = here = stack.enter_context(serving(folder / "one", url))
        if servers > 1:
            shutil.copytree(
                folder / "one", folder / "two", ignore=shutil.ignore_patterns("*.sock", "*.lock", "*.db*")
            )
            here = stack.enter_context(serving(folder / "two", url))
        figures = asyncio.run(measure(asked, here, agents=agents, asks=asks, pause_s=pause))
        click.echo(json.dumps({"agents": agents, "servers": servers} | figures, indent=2))


class Server:
    """A running server process."""

    def __init__(self, data_dir: Path, port: int, http_port: int) -> None:
        self.wire = Wire(port, (data_dir / "server-ca.crt").read_text())
        self._metrics = f"http://127.0.0.1:{http_port}/metrics"
        transport = httpx.AsyncHTTPTransport(uds=str(data_dir / "admin.sock"))
        self._client = httpx.AsyncClient(transport=transport, timeout=30)

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the admin API."""
        response = await self._client.request(method, f"http://ct-ops/v1/{path}", json=body)
        response.raise_for_status()
        return response.json()

    async def mean_push_ms(self) -> float:
        """Return the mean time from a commit to the write to a stream here, by the server's own count."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(self._metrics)).text
        found = dict(re.findall(r"^ct_ops_push_seconds_(sum|count) (\S+)$", text, re.MULTILINE))
        return round(float(found["sum"]) / max(float(found["count"]), 1) * 1000, 2)


@contextmanager
def serving(data_dir: Path, url: str) -> Iterator[Server]:
    """Run a server."""
    environ = dict(os.environ) | {
        "INGEST_DATA_DIR": str(data_dir),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": "0",
        "INGEST_HTTP_PORT": "0",
        "INGEST_LOG_LEVEL": "warning",
        "DATABASE_URL": url,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "ct_ops_server", "serve"], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = dict(re.findall(r"(\w+)=(\S+)", process.stdout.readline()))
        yield Server(data_dir, int(said["grpc_port"]), int(said["http_port"]))
    finally:
        process.terminate()
        process.wait(30)


async def measure(asked: Server, here: Server, *, agents: int, asks: int, pause_s: float) -> dict[str, Any]:
    """Connect the agents to ``here``, and ask them through ``asked``."""
    async with fleet(here, agents) as connections:
        query = await times(asked, connections, "queries", asks=asks, pause_s=pause_s)
        task = await times(asked, connections, "tasks", asks=asks, pause_s=pause_s)
    return {"query": query, "task": task, "commit_to_stream_mean_ms": await here.mean_push_ms()}


async def times(
    asked: Server, connections: list[Connected], kind: str, *, asks: int, pause_s: float
) -> dict[str, float]:
    """Return how long wishes of one kind took to their agent and, for a query, back to the operator."""
    chance, pushed, whole = random.Random(1), list[float](), list[float]()
    body = {"actor": "bench", "type": "list_ports" if kind == "queries" else "software_inventory"}
    for _ in range(asks):
        agent = chance.choice(connections)
        began_s = perf_counter()
        asking = asyncio.create_task(asked.ask("POST", f"agents/{agent.host.agent_id}/{kind}", body))
        if kind == "queries":
            query = await agent.query()
            pushed.append(perf_counter() - began_s)
            await agent.answer(query)
            await asked.ask("GET", f"queries/{(await asking)['id']}?wait_s=10")
        else:
            task = await agent.task()
            pushed.append(perf_counter() - began_s)
            await agent.end(task)
            await asking
        whole.append(perf_counter() - began_s)
        await asyncio.sleep(pause_s)
    return {
        "count": asks,
        "asked_to_agent_p50_ms": share(pushed, 0.5),
        "asked_to_agent_p99_ms": share(pushed, 0.99),
        "with_answer_p50_ms": share(whole, 0.5),
        "with_answer_p99_ms": share(whole, 0.99),
    }


@asynccontextmanager
async def fleet(server: Server, agents: int) -> AsyncIterator[list[Connected]]:
    """Enrol hosts and connect them all."""
    made = await server.ask("POST", "tokens", {"actor": "bench", "label": "bench", "auto_approve": True})
    hosts = [Host(f"bench-{number}") for number in range(agents)]
    at_once = asyncio.Semaphore(_ENROLLED_AT_ONCE)

    async def enrol(host: Host) -> None:
        async with at_once:
            await server.wire.register(host, made["token"])

    await asyncio.gather(*map(enrol, hosts))
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(server.wire, host)) for host in hosts]


def share(seconds: list[float], part: float) -> float:
    """Return a quantile in milliseconds."""
    return round(sorted(seconds)[min(int(len(seconds) * part), len(seconds) - 1)] * 1000, 2)


if __name__ == "__main__":
    bench()
