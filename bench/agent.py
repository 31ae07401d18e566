"""What an enrolled agent costs: memory, processor time at default settings, time to its first heartbeat.

    python bench/agent.py [--seconds 300] [--program PATH]

Starts a server on loopback (SQLite), enrols an agent with every default collector at its default interval, lets
both run, and stops everything. ``--program`` measures a frozen agent instead of the one of this environment. The
agent's own collector says the same as the kernel, which is printed beside it.
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
_SETTLE_S = 5.0
_HOST = "bench-host"


@click.command()
@click.option("--seconds", default=300, show_default=True, help="How long it is watched.")
@click.option("--program", type=click.Path(exists=True), help="A frozen agent.")
def bench(*, seconds: int, program: str | None) -> None:
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
            "CT_OPS_HOSTNAME": _HOST,
        }
        agent = [program] if program else [sys.executable, "-m", "ct_ops_agent"]
        click.echo(machine("sqlite"))
        click.echo(json.dumps(measure(environ, agent, seconds), indent=2))


def measure(environ: dict[str, str], program: list[str], seconds: int) -> dict[str, object]:
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
            [*program, "run", "--once"],
            env=first,
            check=True,
            capture_output=True,
        )
        environ = first
        starts = [first_acknowledged_s(environ, program) for _ in range(_STARTS)]
        return {
            "start_to_first_acknowledged_ms": round(statistics.median(starts) * 1000),
            **watched(environ, program, seconds),
        }
    finally:
        server.terminate()
        server.wait(30)


def first_acknowledged_s(environ: dict[str, str], program: list[str]) -> float:
    """Return the seconds from exec to the acknowledgement."""
    started = time.monotonic()
    agent = start(environ, program)
    try:
        connected(agent)
        return time.monotonic() - started
    finally:
        stop(agent)


def watched(environ: dict[str, str], program: list[str], seconds: int) -> dict[str, object]:
    """Return what a connected agent takes while it does what it does by default."""
    agent = start(environ, program)
    try:
        connected(agent)
        time.sleep(_SETTLE_S)
        before_s, began = cpu_seconds(agent.pid), time.monotonic()
        time.sleep(seconds)
        used_s, elapsed_s = cpu_seconds(agent.pid) - before_s, time.monotonic() - began
        rollup = Path(f"/proc/{agent.pid}/smaps_rollup").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in rollup[1:]}
        return {
            "rss_mib": round(sizes["Rss"], 1),
            "anonymous_mib": round(sizes["Anonymous"], 1),
            "cpu_percent_of_a_core": round(100 * used_s / elapsed_s, 3),
            "watched_s": round(elapsed_s),
            "as_its_own_collector_says": own_words(environ),
        }
    finally:
        stop(agent)


def own_words(environ: dict[str, str]) -> dict[str, float]:
    """Return the newest samples of the agent's own collector, as the server has them."""
    done = subprocess.run(
        [sys.executable, "-m", "ct_ops_server", "samples", _HOST, "--json"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout)
    wanted = ("agent.cpu_percent", "agent.memory_bytes", "agent.anonymous_bytes", "agent.threads")
    return {row["series"]: row["latest_value"] for row in rows if row["series"] in wanted}


def cpu_seconds(pid: int) -> float:
    """Return what a process and its ended children have used of the processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def start(environ: dict[str, str], program: list[str]) -> subprocess.Popen[str]:
    """Start an agent as a daemon would be."""
    return subprocess.Popen([*program, "run"], env=environ, stderr=subprocess.PIPE, text=True)


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
