"""``ct-ops-agent install``: from the unpacked folder to a service that reports, and the word on what came of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import click

from ct_ops_agent.cli.exits import errors_as_exits
from ct_ops_agent.cli.tokens import take_token
from ct_ops_agent.errors import InstallationError
from ct_ops_agent.secret import Secret
from ct_ops_agent.service import layout
from ct_ops_agent.service.build import own_folder
from ct_ops_agent.service.doing import do_all, only_one
from ct_ops_agent.service.machine import Machine
from ct_ops_agent.service.merging import Demands
from ct_ops_agent.service.outcome import Ending, Look, Outcome, UnitState, parse_unit_state, wait
from ct_ops_agent.service.plan import Wanted, complaints, plan_installation
from ct_ops_agent.service.survey import look_at
from ct_ops_agent.service.unit import credential_place
from ct_ops_agent.service.wanted import Request, complete
from ct_ops_agent.status.place import find_report, folders
from ct_ops_agent.status.process import is_alive
from ct_ops_agent.status.report import Report

EXIT_CODES = """\b
Exit codes:
  0   the server has acknowledged a heartbeat, or waits for an operator's approval
  1   failed: this host cannot have it, a step failed, or the agent does not stay up
  2   wrong usage
  69  installed, and the server was not reached in the time given
  77  installed, and refused by the server
  78  the configuration cannot work; nothing was changed
"""
_SHOW = ("systemctl", "show", "--property=ActiveState,ExecMainStatus", layout.UNIT.name)

_OPTIONS = (
    click.option("-address", "--address", metavar="HOST:PORT", help="The server; by default where the token points."),
    click.option(
        "-token-file", "--token-file", type=click.Path(path_type=Path), metavar="PATH",
        help="File with the enrolment token.",
    ),
    click.option("-token", "--token", metavar="-", help="Read the enrolment token from standard input (-)."),
    click.option("-tag", "--tag", "tags", multiple=True, metavar="KEY:VALUE", help="A label; may be repeated."),
    click.option("--no-tags", "without_tags", is_flag=True, help="Remove the labels that are configured."),
    click.option(
        "-tls-skip-verify/--no-tls-skip-verify", "--tls-skip-verify", "tls_skip_verify", default=None,
        help="Believe the certificate seen at first contact (unsafe), or not any more.",
    ),
    click.option(
        "-ca-cert-file", "--ca-cert-file", "authority", type=click.Path(path_type=Path), metavar="FILE",
        help="The authority of the server's certificate; copied.",
    ),
    click.option(
        "-config", "--config", "offered", type=click.Path(path_type=Path), metavar="FILE",
        help=f"Settings for what {layout.CONFIGURATION} does not say yet.",
    ),
    click.option(
        "--from", "folder", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIR",
        help="The unpacked agent; by default the one that runs.",
    ),
    click.option(
        "--root", "root", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIR",
        help="Install into the root of an image; nothing outside it is touched, and nothing started.",
    ),
    click.option("--dry-run", "dry_run", is_flag=True, help="Print what would be done, and do nothing."),
    click.option(
        "--wait", "patience_s", type=click.FloatRange(min=0), default=60.0, show_default=True, metavar="SECONDS",
        help="How long to wait for the first acknowledged heartbeat.",
    ),
)  # fmt: skip


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), function)


@click.command(epilog=EXIT_CODES)
@_with_options
def install(**given: Any) -> None:
    """Install this agent as a service of the host, and wait for its first acknowledged heartbeat.

    Run it as root from the unpacked folder. Again, it upgrades, downgrades or repairs; an agent that is there is
    taken over, with its identity and its configuration.
    """
    with errors_as_exits():
        install_as_asked(given)


def install_as_asked(given: Mapping[str, Any]) -> None:
    """Install.

    Raises:
        AgentError: it cannot be done.
    """
    token = take_token(given["token"], given["token_file"], os.environ, sys.stdin)
    machine = Machine((given["root"] or Path("/")).resolve())
    facts = look_at(machine)
    wanted = complete(_request(given, token), facts, machine)
    if found := list(complaints(facts, wanted, image=machine.is_image)):
        raise InstallationError("\n".join(found))
    steps = plan_installation(facts, wanted, image=machine.is_image)
    _say_what_is_merged(wanted)
    if given["dry_run"]:
        for number, step in enumerate(steps, start=1):
            click.echo(f"{number:>3}. {step}")
        return
    before = _report(wanted)
    with only_one(machine):
        do_all(steps, machine, click.echo)
    if machine.is_image:
        click.echo(f"installed into {machine.root}; the agent starts with the image")
        return
    outcome = wait(lambda: _look(machine, wanted, before), time.monotonic, time.sleep, given["patience_s"])
    _finish(outcome, machine, credential_place(facts.systemd_version))


def _request(given: Mapping[str, Any], token: Secret) -> Request:
    return Request(
        folder=(given["folder"] or own_folder()).resolve(),
        demands=Demands(
            address=given["address"],
            tls_skip_verify=given["tls_skip_verify"],
            tags=given["tags"],
            without_tags=given["without_tags"],
        ),
        offered=given["offered"],
        authority=given["authority"],
        token=token,
    )


def _say_what_is_merged(wanted: Wanted) -> None:
    for change in wanted.merged.changes:
        click.echo(f"configuration: {change}")
    for key in wanted.merged.not_taken:
        click.echo(f"configuration: {key} stays as it is; the offered value is not taken")
    if wanted.merged.token_in_comment:
        click.echo(
            f"warning: a comment in {layout.CONFIGURATION} holds an enrolment token; remove it by hand",
            err=True,
        )


def _report(wanted: Wanted) -> Report | None:
    return find_report(wanted.data.path, folders(wanted.data.path, {}))


def _look(machine: Machine, wanted: Wanted, before: Report | None) -> Look:
    """Look at the agent that was started; what the one before it has left says nothing."""
    report = _report(wanted)
    is_new = report and (before is None or (report.pid, report.since) != (before.pid, before.since))
    lives = is_new and report and is_alive(report.pid, wanted.data.path)
    unit = UnitState()
    with suppress(InstallationError):
        unit = parse_unit_state(machine.run(_SHOW))
    return Look(report if lives else None, unit)


def _finish(outcome: Outcome, machine: Machine, credential: Path) -> None:
    click.echo(outcome.text, err=outcome.exit_code != 0)
    if outcome.ending is Ending.ACTIVE and outcome.offers and machine.at(credential).exists():
        machine.remove(credential)
        click.echo(f"removed the enrolment token from {credential}: an enrolled agent does not need it")
    sys.exit(outcome.exit_code)
