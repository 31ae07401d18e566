"""Registrations: how many a second, each on a TLS connection of its own, and where the CPU goes.

    python bench/registrations.py [--agents 1000] [--concurrency 32] [--database sqlite|postgresql]

Starts a server of its own on loopback (and a PostgreSQL of its own, fsync on), enrols agents with the load
tool's virtual agents in another process (key, CSR, connection, Register, leaf), and stops everything. The server,
the client and the database share the machine's cores.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import psutil
import uvloop
from heartbeats import cpu_s, machine, run

from ct_ops_loadtest.connection import Server
from ct_ops_loadtest.plan import Target
from ct_ops_loadtest.tls import Trust
from ct_ops_loadtest.virtual_agent import VirtualAgent

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from databases import fresh_database, postgres_server


@click.command()
@click.option("--agents", default=1000, show_default=True)
@click.option("--concurrency", default=32, show_default=True)
@click.option("--database", type=click.Choice(["sqlite", "postgresql"]), default="sqlite", show_default=True)
@click.option("--client-of", hidden=True)
def bench(*, agents: int, concurrency: int, database: str, client_of: str | None) -> None:
    """Measure registrations."""
    if client_of is not None:
        click.echo(json.dumps(uvloop.run(enrol(json.loads(client_of), agents, concurrency))))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ct-ops-bench-")))
        environ = dict(os.environ) | {
            "INGEST_DATA_DIR": str(folder / "server"),
            "INGEST_GRPC_HOST": "127.0.0.1",
            "INGEST_GRPC_PORT": "0",
            "INGEST_HTTP_PORT": "0",
            "INGEST_LOG_LEVEL": "warning",
        }
        postgres_pid = None
        if database == "postgresql":
            server = stack.enter_context(postgres_server())
            environ["DATABASE_URL"] = asyncio.run(fresh_database(server.url))
            postgres_pid = server.pid
        click.echo(machine(database))
        click.echo(json.dumps(measure(environ, agents, concurrency, postgres_pid), indent=2))


def measure(
    environ: dict[str, str], agents: int, concurrency: int, postgres_pid: int | None
) -> dict[str, object]:
    """Return the figures of one run."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ct_ops_server", "serve"], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        create = ("token", "create", "--label", "bench", "--auto-approve", "--json")
        token = run(environ, "ct_ops_server", *create)["token"]
        ca = (Path(environ["INGEST_DATA_DIR"]) / "server-ca.crt").read_text()
        watched = psutil.Process(process.pid)
        before, database_before = cpu_s(watched), tree_cpu_s(postgres_pid)
        target = json.dumps({"token": token, "ca": ca})
        done = subprocess.run(
            [sys.executable, __file__, "--client-of", target, "--agents", str(agents),
             "--concurrency", str(concurrency)],
            env=environ, capture_output=True, text=True, check=True,
        )  # fmt: skip
        figures: dict[str, Any] = json.loads(done.stdout)
        client_s = figures.pop("client_cpu_s")
        return figures | {
            "server_cpu_ms_each": round((cpu_s(watched) - before) / agents * 1e3, 2),
            "client_cpu_ms_each": round(client_s / agents * 1e3, 2),
            "database_cpu_ms_each": round((tree_cpu_s(postgres_pid) - database_before) / agents * 1e3, 2),
        }
    finally:
        process.terminate()
        process.wait(30)


async def enrol(target: dict[str, str], agents: int, concurrency: int) -> dict[str, object]:
    """Enrol as the client process."""
    from ct_ops_proto.enrolment_token import parse_token  # noqa: PLC0415  only the client needs it

    token = parse_token(target["token"])
    assert token.hint is not None
    port = token.hint.addresses[0].rpartition(":")[2]
    server = Target(Server("127.0.0.1", int(port)), Trust(target["ca"]), target["token"])
    anonymous = server.trust.context()
    turns, seconds = asyncio.Semaphore(concurrency), list[float]()

    async def one(number: int) -> None:
        async with turns:
            began = time.monotonic()
            await VirtualAgent(server, f"bench-{number:05d}", lambda _: None).register(anonymous)
            seconds.append(time.monotonic() - began)

    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.gather(*map(one, range(agents)))
    took_s, now_used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    seconds.sort()
    return {
        "registrations": len(seconds),
        "registrations_per_s": round(len(seconds) / took_s, 1),
        "p50_ms": round(seconds[len(seconds) // 2] * 1e3),
        "p99_ms": round(seconds[int(len(seconds) * 0.99)] * 1e3),
        "client_cpu_s": now_used.ru_utime + now_used.ru_stime - used.ru_utime - used.ru_stime,
    }


def tree_cpu_s(pid: int | None) -> float:
    """Return the CPU of a process and its children, in seconds; 0 without one."""
    if pid is None:
        return 0.0
    root = psutil.Process(pid)
    return sum(cpu_s(each) for each in (root, *root.children(recursive=True)))


if __name__ == "__main__":
    bench()
