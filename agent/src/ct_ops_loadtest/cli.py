"""``ct-ops-loadtest run``: prints the figures.

Exit codes: 0 when every agent was served, 1 when anything was refused or broke, 2 when the arguments
cannot be used. An enrolment token is a secret: it comes from the environment or a file and is never shown.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TextIO

import click
from cryptography import x509

from ct_ops_loadtest.run import Plan, run
from ct_ops_loadtest.virtual_agent import Target
from ct_ops_proto.enrolment_token import EnrolmentToken, parse_token

_POSITIVE = click.FloatRange(min=0, min_open=True)


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
@click.option("--duration", default=10.0, show_default=True, type=_POSITIVE, help="Seconds.")
@click.option(
    "--heartbeat-interval",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds; 0: a closed loop.",
)
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
    token = _token(token_file)
    target = Target(_address(address, token), _authority(ca_cert), token.secret)
    plan = Plan(agents, duration, heartbeat_interval, registration_concurrency, hostname_prefix, seed)
    tally = asyncio.run(run(target, plan, lambda line: click.echo(line, err=True)))
    click.echo(json.dumps(tally.figures(), indent=2))
    if tally.failed:
        raise SystemExit(1)


def _token(file: TextIO | None) -> EnrolmentToken:
    """Return the token from the file or, taken out of it, from the environment."""
    try:
        text = (file.read() if file else os.environ.pop("CT_OPS_ENROLMENT_TOKEN", "")).strip()
        token = parse_token(text)
    except ValueError as error:  # cut off, or not even text
        raise click.UsageError("token incomplete, copy it again") from error
    if not text:
        raise click.UsageError("no token: set CT_OPS_ENROLMENT_TOKEN or give --token-file")
    return token


def _address(given: str | None, token: EnrolmentToken) -> str:
    address = given or (token.hint.addresses[0] if token.hint else None)
    if address is None:
        raise click.UsageError("the token names no server: give --address")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise click.UsageError(
            f"{address!r} is no address: give host:port, for example ingest.example.com:9443"
        )
    return address


def _authority(file: Path) -> bytes:
    pem = file.read_bytes()
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise click.UsageError(f"{file} holds no certificate in PEM form") from error
    return pem


if __name__ == "__main__":
    main()
