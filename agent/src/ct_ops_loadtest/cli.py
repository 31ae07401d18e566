"""``ct-ops-loadtest run``: prints the figures; exit code 1 when anything was refused or broke."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TextIO

import click

from ct_ops_loadtest.run import Plan, run
from ct_ops_loadtest.virtual_agent import Target
from ct_ops_proto.enrolment_token import parse_token


@click.group()
def main() -> None:
    """Virtual agents over the real wire. Point it at a server that you may load."""


@main.command("run")
@click.option("--address", help="host:port (default: the one in the token).")
@click.option(
    "--token-file",
    type=click.File(),
    help="Holds an auto-approving token (default: CT_OPS_ENROLMENT_TOKEN). Never on the command line.",
)
@click.option("--ca-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--agents", default=100, show_default=True, type=click.IntRange(1, 20_000))
@click.option("--duration", default=10.0, show_default=True, help="Seconds.")
@click.option("--heartbeat-interval", default=30.0, show_default=True, help="Seconds; 0: a closed loop.")
@click.option("--registration-concurrency", default=32, show_default=True, type=click.IntRange(1, 512))
@click.option("--hostname-prefix", default="loadtest", show_default=True)
@click.option("--seed", default=1, show_default=True)
def run_command(
    *,
    address: str | None,
    token_file: TextIO | None,
    ca_cert: Path,
    agents: int,
    duration: float,
    heartbeat_interval: float,
    registration_concurrency: int,
    hostname_prefix: str,
    seed: int,
) -> None:
    """Enrol virtual agents, let them beat, print one JSON object."""
    token = (token_file.read() if token_file else os.environ.pop("CT_OPS_ENROLMENT_TOKEN", "")).strip()
    if not token:
        raise click.UsageError("no token: set CT_OPS_ENROLMENT_TOKEN or give --token-file")
    parsed = parse_token(token)
    where = address or (parsed.hint.addresses[0] if parsed.hint else None)
    if where is None:
        raise click.UsageError("the token names no server: give --address")
    plan = Plan(agents, duration, heartbeat_interval, registration_concurrency, hostname_prefix, seed)
    target = Target(where, ca_cert.read_bytes(), parsed.secret)
    tally = asyncio.run(run(target, plan, lambda line: click.echo(line, err=True)))
    click.echo(json.dumps(tally.figures(), indent=2))
    if tally.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
