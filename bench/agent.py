"""What an enrolled agent costs: memory while connected and idle, and time to its first acknowledged heartbeat.

    python bench/agent.py

Starts a server on loopback (SQLite), enrols an agent, and stops everything.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from heartbeats import machine, run

_STARTS = 5
_SETTLE_S = 3.0


@click.command()
def bench() -> None:
    """Measure an enrolled agent."""
    with tempfile.TemporaryDirectory(prefix="ct-ops-bench-") as name:
        folder = Path(name)
        environ = dict(os.environ) | {
            "INGEST_DATA_DIR": str(folder / "server"),
            "INGEST_GRPC_HOST": "127.0.0.1",
            "INGEST_GRPC_PORT": "0",
            "INGEST_HTTP_PORT": "0",
            "INGEST_LOG_LEVEL": "warning",
            "CT_OPS_DATA_DIR": str(folder / "agent"),
        }
        click.echo(machine("sqlite"))
        click.echo(json.dumps(measure(environ), indent=2))


def measure(environ: dict[str, str]) -> dict[str, object]:
    """Return the figures."""
    server = subprocess.Popen(
        [sys.executable, "-m", "ct_ops_server", "serve"], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()
        made = run(
            environ, "ct_ops_server", "token", "create", "--label", "bench", "--auto-approve", "--json"
        )
        first = environ | {"CT_OPS_ENROLMENT_TOKEN": str(made["token"])}
        subprocess.run(
            [sys.executable, "-m", "ct_ops_agent", "run", "--once"],
            env=first,
            check=True,
            capture_output=True,
        )
        environ = first
        starts = [first_acknowledged_s(environ) for _ in range(_STARTS)]
        return {
            "start_to_first_acknowledged_ms": round(statistics.median(starts) * 1000),
            **memory_mib(environ),
        }
    finally:
        server.terminate()
        server.wait(30)


def first_acknowledged_s(environ: dict[str, str]) -> float:
    """Return the seconds from exec to the acknowledgement."""
    started = time.monotonic()
    agent = start(environ)
    try:
        connected(agent)
        return time.monotonic() - started
    finally:
        stop(agent)


def memory_mib(environ: dict[str, str]) -> dict[str, float]:
    """Return the resident and the anonymous memory of a connected, idle agent."""
    agent = start(environ)
    try:
        connected(agent)
        time.sleep(_SETTLE_S)
        rollup = Path(f"/proc/{agent.pid}/smaps_rollup").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in rollup[1:]}
        return {"rss_mib": round(sizes["Rss"], 1), "anonymous_mib": round(sizes["Anonymous"], 1)}
    finally:
        stop(agent)


def start(environ: dict[str, str]) -> subprocess.Popen[str]:
    """Start an agent as a daemon would be."""
    return subprocess.Popen(
        [sys.executable, "-m", "ct_ops_agent", "run"], env=environ, stderr=subprocess.PIPE, text=True
    )


def connected(agent: subprocess.Popen[str]) -> None:
    """Wait until it says that its first heartbeat was acknowledged."""
    assert agent.stderr is not None
    for line in agent.stderr:
        if "connected to" in line:
            return
    raise SystemExit("the agent ended without an acknowledged heartbeat")


def stop(agent: subprocess.Popen[str]) -> None:
    """End it."""
    agent.terminate()
    agent.wait(10)


if __name__ == "__main__":
    bench()
