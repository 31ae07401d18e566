"""The command ``ct-ops-agent`` itself, which is ``run`` when no command is named."""

from __future__ import annotations

import click

from ct_ops_agent import __version__
from ct_ops_agent.cli.exits import EXIT_CODES
from ct_ops_proto.lazy_commands import LazyGroup

_COMMANDS = {
    "run": "running:run",
    "status": "status:status",
    "collect": "collect:collect",
    "collectors": "collect:collectors",
    "config": "config_commands:config",
    "identity": "identity:identity",
    "enrol": "enrol:enrol",
    "enrolment": "enrolment:enrolment",
    "install": "installing:install",
    "uninstall": "uninstalling:uninstall",
    "unit": "unit:unit",
    "support-bundle": "support_bundle:support_bundle",
}
"""Where each command is: it is loaded when it is named, for the daemon needs none of the others."""


class _RunByDefault(LazyGroup):
    """A group whose command is ``run`` when none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = _configuration_after_command(args)
        own_options = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if not args or (args[0].startswith("-") and args[0] not in own_options):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _configuration_after_command(args: list[str]) -> list[str]:
    """Return the arguments with the command first: `-config FILE status` is meant as `status -config FILE`."""
    length = 2 if args[:1] in (["-config"], ["--config"]) else 1
    if (
        args
        and args[0].startswith(("-config", "--config"))
        and args[length : length + 1]
        and args[length] in _COMMANDS
    ):
        return [args[length], *args[:length], *args[length + 1 :]]
    return args


@click.group(
    cls=_RunByDefault,
    package="ct_ops_agent.cli",
    places=_COMMANDS,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["--help", "-help", "-h"]},
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


def _print_version(ctx: click.Context) -> None:
    click.echo(f"ct-ops-agent {__version__}")
    ctx.exit()
