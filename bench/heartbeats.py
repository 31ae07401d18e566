"""Durable heartbeats: how many a second, how fast, at what cost of CPU and memory.

    python bench/heartbeats.py [--agents 1000] [--seconds 10] [--database sqlite|postgresql]

Starts a server of its own on loopback (and a PostgreSQL of its own, fsync on), loads it with the load tool in
another process, each agent on its own TLS connection, in a closed loop, and stops everything. The server, the load
tool and the database share the machine's cores.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from databases import fresh_database, postgres_server

_MIB = 1024 * 1024


@click.command()
@click.option("--agents", default=1000, show_default=True)
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--database", type=click.Choice(["sqlite", "postgresql"]), default="sqlite", show_default=True)
def bench(*, agents: int, seconds: float, database: str) -> None:
    """Measure durable heartbeats."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ct-ops-bench-")))
        environ = dict(os.environ) | {
            "INGEST_DATA_DIR": str(folder / "server"),
            "INGEST_GRPC_HOST": "127.0.0.1",
            "INGEST_GRPC_PORT": "0",
            "INGEST_HTTP_PORT": "0",
            "INGEST_LOG_LEVEL": "warning",
        }
        if database == "postgresql":
            server = stack.enter_context(postgres_server())
            environ["DATABASE_URL"] = asyncio.run(fresh_database(server.url))
        click.echo(machine(database))
        click.echo(json.dumps(measure(environ, agents, seconds), indent=2))


def measure(environ: dict[str, str], agents: int, seconds: float) -> dict[str, object]:
    """Return the figures of one run."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ct_ops_server", "serve"], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        made = run(
            environ, "ct_ops_server", "token", "create", "--label", "bench", "--auto-approve", "--json"
        )
        watched = psutil.Process(process.pid)
        before = watched.memory_info().rss
        load = environ | {"CT_OPS_ENROLMENT_TOKEN": made["token"]}
        cpu_before = cpu_s(watched)
        figures = run(
            load, "ct_ops_loadtest.cli", "run", "--agents", str(agents), "--duration", str(seconds), "--json",
            "--heartbeat-interval", "0", "--ramp", "0", "--run-id", "bench", "--skip-preflight",
            "--ca-cert", f"{environ['INGEST_DATA_DIR']}/server-ca.crt",
        )  # fmt: skip
        idle = run(
            load, "ct_ops_loadtest.cli", "run", "--agents", "1", "--duration", "1", "--heartbeat-interval", "0",
            "--ramp", "0", "--run-id", "single", "--skip-preflight", "--json",
            "--ca-cert", f"{environ['INGEST_DATA_DIR']}/server-ca.crt",
        )  # fmt: skip
        peak = peak_rss(process.pid)
        return figures | {
            "single_agent_heartbeats_per_s": idle["heartbeats_per_s"],
            "server_cpu_us_per_heartbeat_all_included": round(
                (cpu_s(watched) - cpu_before) / max(1, figures["heartbeats"]) * 1e6
            ),
            "server_rss_before_mib": round(before / _MIB, 1),
            "server_rss_peak_mib": round(peak / _MIB, 1),
            "rss_per_agent_kib": round((peak - before) / agents / 1024, 1),
        }
    finally:
        process.terminate()
        process.wait(30)


def run(environ: dict[str, str], module: str, *arguments: str) -> dict[str, Any]:
    """Return what a command prints as JSON: an object."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], env=environ, capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise SystemExit(done.stderr)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def cpu_s(process: psutil.Process) -> float:
    """Return user and system time, in seconds."""
    times = process.cpu_times()
    return times.user + times.system


def peak_rss(pid: int) -> int:
    """Return the largest resident size the process has had, in bytes."""
    line = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


def machine(database: str) -> str:
    """Return the facts without which a figure means nothing."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "?",
    )
    facts = (
        f"{os.cpu_count()} cores ({cpu})", f"load {os.getloadavg()[0]:.2f}", platform.platform(),
        f"Python {platform.python_version()}",
        f"SQLite {sqlite3.sqlite_version}" if database == "sqlite" else "PostgreSQL (pip), fsync and synchronous_commit on",
    )  # fmt: skip
    return " · ".join(facts)


if __name__ == "__main__":
    bench()
