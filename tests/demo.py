"""The demo: a server on loopback, an agent for this very host, and its vitals in the terminal.

    python tests/demo.py           refresh until Ctrl-C
    python tests/demo.py --once    print once after the first acknowledged heartbeat, then stop everything

Real commands in real processes, as an operator would start them, in a temporary folder with ports that the
system chooses. Whatever happens, both processes are ended and the folder is removed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import httpx

from ct_ops_server.cli.output import agents_table, table

_START_S = 30.0
_FIRST_HEARTBEAT_S = 30.0
_REFRESH_S = 2.0
_GIGABYTE = 1024**3


@click.command()
@click.option("--once", is_flag=True, help="Print the table once and stop.")
def demo(*, once: bool) -> None:
    """Enrol this host with a server on loopback and watch its vitals."""
    with tempfile.TemporaryDirectory(prefix="ct-ops-demo-") as folder:
        environ = _environment(Path(folder))
        with _server(environ) as socket:
            click.echo("server: running on loopback, SQLite, with a CA of its own")
            token = _run(
                "ct_ops_server",
                "token",
                "create",
                "--label",
                "demo",
                "--auto-approve",
                "--max-uses",
                "1",
                environ=environ,
            )
            click.echo("token:  made, for one host, carrying the server's address and the pin of its CA")
            with _process(_command("ct_ops_agent", "run"), environ | {"CT_OPS_ENROLMENT_TOKEN": token}):
                click.echo("agent:  started with nothing but that token\n")
                _watch(socket, once=once)
    click.echo("\nstopped; nothing is left running")


def _watch(socket: Path, *, once: bool) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
        agent = _first_vitals(client)
        if once:
            click.echo(_screen(agent))
            return
        try:
            while True:
                click.clear()
                click.echo(_screen(_agent(client) or agent))
                click.echo("\nCtrl-C stops the demo")
                time.sleep(_REFRESH_S)
        except KeyboardInterrupt:
            return


def _first_vitals(client: httpx.Client) -> Mapping[str, Any]:
    give_up_at = time.monotonic() + _FIRST_HEARTBEAT_S
    while time.monotonic() < give_up_at:
        agent = _agent(client)
        if agent is not None and agent["vitals"] is not None and agent["online"]:
            return agent
        time.sleep(0.1)
    raise click.ClickException("no heartbeat was acknowledged in time; the messages above say why")


def _agent(client: httpx.Client) -> Mapping[str, Any] | None:
    agents = client.get("http://ct-ops/v1/agents").json()
    if not agents:
        return None
    shown: Mapping[str, Any] = client.get(f"http://ct-ops/v1/agents/{agents[0]['id']}").json()
    return shown


def _screen(agent: Mapping[str, Any]) -> str:
    disks = [
        (
            disk["mount_point"],
            disk["fs_type"],
            f"{disk['total_bytes'] / _GIGABYTE:.1f} GiB",
            f"{disk['percent_used']:.0f} %",
        )
        for disk in agent["disks"]
    ]
    interfaces = [
        (interface["name"], "up" if interface["is_up"] else "down", " ".join(interface["ip_addresses"]))
        for interface in agent["interfaces"]
    ]
    return "\n\n".join(
        (
            agents_table([agent]),
            table(("DISK", "TYPE", "SIZE", "USED"), disks),
            table(("INTERFACE", "STATE", "ADDRESSES"), interfaces),
        )
    )


def _environment(folder: Path) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("CT_OPS_", "INGEST_"))
    }
    inherited.pop("DATABASE_URL", None)
    return inherited | {
        "INGEST_DATA_DIR": str(folder / "server"),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": "0",
        "INGEST_HTTP_PORT": "0",
        "INGEST_LOG_LEVEL": "warning",
        "CT_OPS_DATA_DIR": str(folder / "agent"),
        "CT_OPS_HEARTBEAT_INTERVAL_SECS": str(int(_REFRESH_S)),
    }


@contextmanager
def _server(environ: Mapping[str, str]) -> Iterator[Path]:
    """Run a server; yield the path of its admin socket once it is ready."""
    with _process(_command("ct_ops_server", "serve"), environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("ready "):
            raise click.ClickException("the server did not start; the messages above say why")
        yield Path(environ["INGEST_DATA_DIR"]) / "admin.sock"


@contextmanager
def _process(
    command: list[str], environ: Mapping[str, str], stdout: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=dict(environ), stdout=stdout, text=True, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(*arguments: str, environ: Mapping[str, str]) -> str:
    command = _command(*arguments)
    done = subprocess.run(
        command, env=dict(environ), capture_output=True, text=True, check=False, timeout=_START_S
    )
    if done.returncode:
        raise click.ClickException(done.stderr)
    return done.stdout.strip()


def _command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


if __name__ == "__main__":
    demo()
