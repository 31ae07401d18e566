"""``ct-ops-loadtest run|cleanup``.

Exit codes: 0 when every agent was served, 1 when anything was refused or broke (or the cleanup failed), 2 when the arguments cannot be
used, 69 when the preflight says no. Ctrl-C ends a run within seconds, with its summary and the code it has earned so far.

Tokens and keys are secrets: they come from the environment or a file, never from the command line, and are never shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import click

from ct_ops_loadtest.cleanup import CleanupError, clean_up, prefix_of
from ct_ops_loadtest.connection import Server
from ct_ops_loadtest.crew import CrewError, run
from ct_ops_loadtest.figures import Tally, summary
from ct_ops_loadtest.option_types import Duration, FaultText
from ct_ops_loadtest.plan import PREFIX, Fault, Plan, PlanError, Slowness, Target, check_plan
from ct_ops_loadtest.preflight import PreflightError, host_troubles, probe, this_host
from ct_ops_loadtest.scenario import load_scenario
from ct_ops_loadtest.tls import Trust
from ct_ops_proto.enrolment_token import EnrolmentToken, parse_token

_UNAVAILABLE = 69
_SLOW = Slowness(bytes_per_s=200, read_after_s=3)


_DURATION = Duration()
_SHARE = click.FloatRange(0, 1)


@click.group()
def main() -> None:
    """Virtual agents over the real wire. Point it at a server that you may load."""


@main.command("run")
@click.option("--address", help="host:port of the agents' port (default: the one in the token).")
@click.option(
    "--token-file",
    type=click.File(),
    help="Holds an auto-approving token (default: CT_OPS_ENROLMENT_TOKEN).",
)
@click.option(
    "--ca-cert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The server's authority, PEM (default: the system's roots).",
)
@click.option("--tls-skip-verify", is_flag=True, help="Believe any server.")
@click.option(
    "--scenario",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML; options win over it.",
)
@click.option("--agents", type=click.IntRange(1, 200_000), help="How many [default: 100].")
@click.option("--ramp", "ramp_s", type=_DURATION, help="Time over which they start [default: 30s].")
@click.option(
    "--duration", "duration_s", type=_DURATION, help="Time after that; 0: until Ctrl-C [default: 5m]."
)
@click.option("--heartbeat-interval", "interval_s", type=_DURATION, help="0: a closed loop [default: 30s].")
@click.option(
    "--conn-fanout", "fanout", type=click.IntRange(1), help="Agents that share a connection [default: 1]."
)
@click.option(
    "--registration-concurrency", "concurrency", type=click.IntRange(1, 1024),
    help="Registrations and handshakes at a time [default: 32].",
)  # fmt: skip
@click.option("--run-id", help="Part of every hostname [default: made of the time].")
@click.option("--hostname-prefix", help=f"How hostnames start [default: {PREFIX}].")
@click.option("--seed", type=int, help="The same seed makes the same plan [default: 1].")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Share the agents among so many.",
)
@click.option(
    "--simulate-checks/--no-simulate-checks",
    default=None,
    help="Run the server's checks, synthetically [default: yes].",
)
@click.option(
    "--simulate-tasks/--no-simulate-tasks", default=None, help="Answer queries and do tasks [default: yes]."
)
@click.option(
    "--simulate-inventory/--no-simulate-inventory",
    default=None,
    help="Upload packages for tasks [default: yes].",
)
@click.option("--check-failure-rate", type=_SHARE, help="Share of results that fail [default: 0.05].")
@click.option("--metrics-jitter", type=_SHARE, help="How much the vitals vary [default: 0.1].")
@click.option(
    "--storm",
    "storms",
    multiple=True,
    type=FaultText("storm"),
    help="AT[,SHARE]: cut connections, all come back at once.",
)
@click.option(
    "--outage",
    "outages",
    multiple=True,
    type=FaultText("outage"),
    help="AT,FOR[,SHARE]: cut them and stay away for so long.",
)
@click.option(
    "--slow", type=_SHARE, help="Share of agents on bad lines: 200 bytes a second, reading 3 s late."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option(
    "--output-json",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write it to a file, too.",
)
@click.option("--skip-preflight", is_flag=True, help="Begin without trying the server first.")
def run_command(
    *,
    address: str | None,
    token_file: TextIO | None,
    ca_cert: Path | None,
    tls_skip_verify: bool,
    scenario: Path | None,
    processes: int,
    storms: tuple[Fault, ...],
    outages: tuple[Fault, ...],
    slow: float | None,
    as_json: bool,
    output_json: Path | None,
    skip_preflight: bool,
    **options: Any,
) -> None:
    """Enrol virtual agents, let them beat, and print what came of it."""
    plan = _plan(scenario, options, faults=(*storms, *outages), slow=slow)
    target = _target(_token(token_file), address, ca_cert, skip_verify=tls_skip_verify)
    for line in plan.timetable():
        _say(line)
    if troubles := list(host_troubles(this_host(), plan, processes)):
        raise click.UsageError("; ".join(troubles))
    tally = asyncio.run(_run(target, plan, processes, with_preflight=not skip_preflight))
    _print(tally, plan, as_json=as_json, output=output_json)
    if not tally.served:
        raise SystemExit(1)


@main.command("cleanup")
@click.option("--web-url", required=True, help="The server's HTTP app, for example http://127.0.0.1:8080.")
@click.option(
    "--admin-key-file", type=click.File(), help="Holds the key (default: CT_OPS_LOADTEST_ADMIN_KEY)."
)
@click.option("--run-id", help="Of which run.")
@click.option("--all-runs", is_flag=True, help="Of all runs.")
@click.option(
    "--hostname-prefix", default=PREFIX, show_default=True, help="How the hostnames of the run start."
)
def cleanup_command(
    *,
    web_url: str,
    admin_key_file: TextIO | None,
    run_id: str | None,
    all_runs: bool,
    hostname_prefix: str,
) -> None:
    """Have the server delete the hosts of a run. Doing it again is harmless."""
    if bool(run_id) == all_runs:
        raise click.UsageError("say which hosts: --run-id, or --all-runs")
    try:
        check_plan(Plan(run_id or "any", hostname_prefix=hostname_prefix))
    except PlanError as error:
        raise click.UsageError(str(error)) from error
    key = _secret(admin_key_file, "CT_OPS_LOADTEST_ADMIN_KEY")
    if not key:
        raise click.UsageError("no key: set CT_OPS_LOADTEST_ADMIN_KEY or give --admin-key-file")
    try:
        done = clean_up(web_url, key, prefix_of(run_id, hostname_prefix))
    except CleanupError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{done.deleted} hosts deleted")
    for failed in done.failed:
        click.echo(failed, err=True)
    if done.failed:
        raise SystemExit(1)


async def _run(target: Target, plan: Plan, processes: int, *, with_preflight: bool) -> Tally:
    if with_preflight:
        try:
            warnings = await probe(target, plan)
        except PreflightError as error:
            _say(f"the preflight failed: {error}")
            raise SystemExit(_UNAVAILABLE) from error
        for warning in warnings:
            _say(f"warning: {warning}")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        return await run(target, plan, processes, stop=stop, show=_say)
    except* CrewError as broken:
        raise click.ClickException(str(broken.exceptions[0])) from broken


def _print(tally: Tally, plan: Plan, *, as_json: bool, output: Path | None) -> None:
    figures = {"run_id": plan.run_id, "seed": plan.seed, "planned_agents": plan.agents} | tally.figures()
    text = json.dumps(figures, indent=2)
    if output is not None:
        output.write_text(text + "\n")
    click.echo(text if as_json else summary(tally))
    _say(
        f"to take the hosts back: ct-ops-loadtest cleanup --run-id {plan.run_id} --web-url http://<server>:8080"
        + (f" --hostname-prefix {plan.hostname_prefix}" if plan.hostname_prefix != PREFIX else "")
    )


def _say(line: str) -> None:
    click.echo(line, err=True)


def _plan(
    scenario: Path | None, options: dict[str, Any], *, faults: tuple[Fault, ...], slow: float | None
) -> Plan:
    try:
        fields = {"run_id": _new_run_id()} | (load_scenario(scenario) if scenario else {})
        fields |= {name: value for name, value in options.items() if value is not None}
        plan = Plan(**fields)
        if faults:
            plan = replace(plan, faults=(*plan.faults, *faults))
        if slow is not None:
            plan = replace(plan, slow=replace(_SLOW, share=slow))
        check_plan(plan)
    except PlanError as error:
        raise click.UsageError(str(error)) from error
    return plan


def _target(token: EnrolmentToken, address: str | None, ca_cert: Path | None, *, skip_verify: bool) -> Target:
    try:
        trust = Trust(ca_cert.read_text() if ca_cert else None, verified=not skip_verify)
        trust.context()
    except (OSError, ValueError) as error:  # ssl's error is an OSError, bad characters are a ValueError
        raise click.UsageError(f"{ca_cert} holds no certificate in PEM form") from error
    return Target(_server(_address(address, token)), trust, token.secret)


def _secret(file: TextIO | None, variable: str) -> str:
    """Return a secret from the file or, taken out of it, from the environment."""
    try:
        return (file.read() if file else os.environ.pop(variable, "")).strip()
    except ValueError as error:  # not even text
        raise click.UsageError(f"the file of {variable} holds no text") from error


def _token(file: TextIO | None) -> EnrolmentToken:
    text = _secret(file, "CT_OPS_ENROLMENT_TOKEN")
    if not text:
        raise click.UsageError("no token: set CT_OPS_ENROLMENT_TOKEN or give --token-file")
    try:
        return parse_token(text)
    except ValueError as error:
        raise click.UsageError("token incomplete, copy it again") from error


def _address(given: str | None, token: EnrolmentToken) -> str:
    address = given or (token.hint.addresses[0] if token.hint else None)
    if address is None:
        raise click.UsageError("the token names no server: give --address")
    return address


def _server(address: str) -> Server:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise click.UsageError(
            f"{address!r} is no address: give host:port, for example ingest.example.com:9443"
        )
    return Server(host.removeprefix("[").removesuffix("]"), int(port))


def _new_run_id() -> str:
    return f"lt-{datetime.now(UTC):%y%m%d-%H%M%S}-{secrets.token_hex(4)}"


if __name__ == "__main__":
    main()
