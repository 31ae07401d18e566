"""``ct-ops-agent run``: the daemon, or with ``--once`` a single heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ct_ops_agent.cli.configuration import config_option, load
from ct_ops_agent.cli.exits import EXIT_CODES, errors_as_exits
from ct_ops_agent.config.load import Flags
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.logs import configure_logging

if TYPE_CHECKING:
    from ct_ops_agent.lifecycle import Outcome

_RUN_OPTIONS = (
    config_option,
    click.option("-address", "--address", metavar="HOST:PORT", help="The server."),
    click.option(
        "-token-file",
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="File with the enrolment token.",
    ),
    click.option("-token", "--token", metavar="-", help="Read the enrolment token from standard input (-)."),
    click.option(
        "-tag", "--tag", "tags", multiple=True, metavar="KEY:VALUE", help="A label; may be repeated."
    ),
    click.option(
        "-tls-skip-verify",
        "--tls-skip-verify",
        is_flag=True,
        default=None,
        help="Believe the certificate seen at first contact. Unsafe.",
    ),
    click.option(
        "-once", "--once", is_flag=True, help="Enrol if needed, send one heartbeat, report and exit."
    ),
    click.option("-install", "--install", is_flag=True, hidden=True),
    click.option("-uninstall", "--uninstall", is_flag=True, hidden=True),
)


def _with_run_options(function: Callable[..., None]) -> Callable[..., None]:
    return reduce(lambda decorated, option: option(decorated), reversed(_RUN_OPTIONS), function)


@click.command(epilog=EXIT_CODES)
@_with_run_options
def run(*, once: bool, install: bool, uninstall: bool, **given: Any) -> None:
    """Run the agent. Flags go before the environment, the environment before the file."""
    if install and uninstall:
        raise click.UsageError("-install and -uninstall contradict each other")
    if install:
        _install_as_before(given)
    if uninstall:
        _uninstall_as_before()
    configure_logging()
    config = load(Flags(**given))
    if once:
        _run_once(config)
    else:
        _run_daemon(config)


def _install_as_before(given: Mapping[str, Any]) -> NoReturn:
    """Do what ``-install`` of an existing agent does, the way ``install`` does it."""
    from ct_ops_agent.cli.installing import install as command  # noqa: PLC0415 - for whoever installs

    words = {"config_file": "offered"}
    context = click.get_current_context()
    context.invoke(command, **{words.get(name, name): value for name, value in given.items()})
    context.exit()


def _uninstall_as_before() -> NoReturn:
    from ct_ops_agent.cli.uninstalling import uninstall as command  # noqa: PLC0415 - as above

    context = click.get_current_context()
    context.invoke(command)
    context.exit()


def _run_daemon(config: AgentConfig) -> None:
    from ct_ops_agent.daemon import run_daemon  # noqa: PLC0415 - loads gRPC, which --help can do without

    with errors_as_exits():
        asyncio.run(run_daemon(config))


def _run_once(config: AgentConfig) -> None:
    from ct_ops_agent.daemon import run_once  # noqa: PLC0415 - as above

    with errors_as_exits():
        click.echo(summarize(asyncio.run(run_once(config))))


def summarize(outcome: Outcome) -> str:
    """Return what one heartbeat said, for a human."""
    vitals = outcome.vitals
    verb = "Enrolled as" if outcome.newly_enrolled else "Reported as"
    return (
        f"{verb} agent {outcome.identity.agent_id} at {outcome.route.addresses[0]}; heartbeat acknowledged.\n"
        f"cpu {vitals.cpu_percent:.0f} %, memory {vitals.memory_percent:.0f} %, root disk {vitals.disk_percent:.0f} %, "
        f"disks {len(vitals.disks)}, interfaces {len(vitals.interfaces)}, up {vitals.uptime_seconds // 3600} h"
    )
