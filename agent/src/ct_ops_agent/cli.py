"""The command line: arguments → configuration → daemon, and what the process ends with.

``ct-ops-agent run`` is the daemon; without a command it is meant as well, since existing units call
``ct-ops-agent -config FILE``. Long options have one dash, as existing installations write them, and
two, as everybody else does.

The only place that prints. Everything heavy is imported inside a command: ``--help`` and a mistake
in the configuration answer at once.
"""

import asyncio
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ct_ops_agent.config.load import Flags, load_config, read_environment
from ct_ops_agent.config.schema import DEFAULT_FILE, AgentConfig
from ct_ops_agent.errors import (
    AgentError,
    ApprovalPendingError,
    ConfigError,
    CredentialRejectedError,
    EnrolmentRefusedError,
    UnreachableError,
)
from ct_ops_agent.logs import configure_logging

if TYPE_CHECKING:
    from ct_ops_agent.lifecycle import Outcome

EXIT_FAILED = 1
EXIT_UNREACHABLE = 69
EXIT_REFUSED = 77
EXIT_CONFIGURATION = 78

_EXIT_CODES = """\b
Exit codes:
  0   stopped on request; with --once: the heartbeat was acknowledged
  1   failed, for example because the data directory is in use
  2   wrong usage
  69  --once only: the server cannot be reached
  77  --once only: refused, or waiting for an operator's approval
  78  the configuration cannot work; every problem is listed
"""

_RUN_OPTIONS = (
    click.option(
        "-config",
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"Configuration file.  [default: {DEFAULT_FILE}]",
    ),
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


class _RunByDefault(click.Group):
    """A group whose command is ``run`` when none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own_options = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if not args or (args[0].startswith("-") and args[0] not in own_options):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_RunByDefault, epilog=_EXIT_CODES, context_settings={"help_option_names": ["--help", "-help", "-h"]}
)
@click.option(
    "-version",
    "-v",
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda ctx, _parameter, wanted: _print_version(ctx) if wanted else None,
    help="Print the version and exit.",
)
def main() -> None:
    """The CT-Ops agent: enrols this host with a server and reports to it.

    Without a command it runs, as `ct-ops-agent run` does.
    """


@main.command(epilog=_EXIT_CODES)
@_with_run_options
def run(*, once: bool, install: bool, uninstall: bool, **given: Any) -> None:
    """Run the agent. Flags go before the environment, the environment before the file."""
    if install or uninstall:
        raise click.UsageError(
            "-install and -uninstall are not available in this build; install the package or use the install bundle"
        )
    configure_logging()
    config = _load(Flags(**given))
    if once:
        _run_once(config)
    else:
        _run_daemon(config)


def _load(flags: Flags) -> AgentConfig:
    try:
        loaded = load_config(flags, read_environment())
    except ConfigError as error:
        _fail(error, EXIT_CONFIGURATION)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    return loaded.config


def _run_daemon(config: AgentConfig) -> None:
    from ct_ops_agent.daemon import run_daemon  # noqa: PLC0415 - loads gRPC, which --help can do without

    try:
        asyncio.run(run_daemon(config))
    except AgentError as error:
        _fail(error, exit_code_for(error))


def _run_once(config: AgentConfig) -> None:
    from ct_ops_agent.daemon import run_once  # noqa: PLC0415 - as above

    try:
        outcome = asyncio.run(run_once(config))
    except AgentError as error:
        _fail(error, exit_code_for(error))
    click.echo(summarize(outcome))


def exit_code_for(error: AgentError) -> int:
    """Return what the process ends with after an error."""
    match error:
        case ConfigError():
            return EXIT_CONFIGURATION
        case UnreachableError():
            return EXIT_UNREACHABLE
        case EnrolmentRefusedError() | CredentialRejectedError() | ApprovalPendingError():
            return EXIT_REFUSED
        case _:
            return EXIT_FAILED


def summarize(outcome: "Outcome") -> str:
    """Return what one heartbeat said, for a human."""
    vitals = outcome.vitals
    verb = "Enrolled as" if outcome.newly_enrolled else "Reported as"
    return (
        f"{verb} agent {outcome.identity.agent_id} at {outcome.route.addresses[0]}; heartbeat acknowledged.\n"
        f"cpu {vitals.cpu_percent:.0f} %, memory {vitals.memory_percent:.0f} %, root disk {vitals.disk_percent:.0f} %, "
        f"disks {len(vitals.disks)}, interfaces {len(vitals.interfaces)}, up {vitals.uptime_seconds // 3600} h"
    )


def _fail(error: AgentError, code: int) -> NoReturn:
    if isinstance(error, ConfigError):
        click.echo("the configuration cannot work:", err=True)
        for problem in error.problems:
            click.echo(f"  {problem}", err=True)
    else:
        click.echo(f"error: {error}", err=True)
    sys.exit(code)


def _print_version(ctx: click.Context) -> None:
    from ct_ops_agent import __version__  # noqa: PLC0415 - as above

    click.echo(f"ct-ops-agent {__version__}")
    ctx.exit()
