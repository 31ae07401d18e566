"""The command ``ct-ops-agent`` itself, which is ``run`` when no command is named."""

from __future__ import annotations

import click

from ct_ops_agent import __version__
from ct_ops_agent.cli.collect import collect, collectors
from ct_ops_agent.cli.config_commands import config
from ct_ops_agent.cli.enrolment import enrolment
from ct_ops_agent.cli.identity import identity
from ct_ops_agent.cli.installing import install
from ct_ops_agent.cli.running import EXIT_CODES, run
from ct_ops_agent.cli.status import status
from ct_ops_agent.cli.support_bundle import support_bundle
from ct_ops_agent.cli.uninstalling import uninstall
from ct_ops_agent.cli.unit import unit


class _RunByDefault(click.Group):
    """A group whose command is ``run`` when none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own_options = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if not args or (args[0].startswith("-") and args[0] not in own_options):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_RunByDefault, epilog=EXIT_CODES, context_settings={"help_option_names": ["--help", "-help", "-h"]}
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


for command in (
    run,
    status,
    collect,
    collectors,
    config,
    identity,
    enrolment,
    install,
    uninstall,
    unit,
    support_bundle,
):
    main.add_command(command)
