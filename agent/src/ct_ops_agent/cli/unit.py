"""``ct-ops-agent unit``: the systemd unit that comes with the agent, or what collectors need beside it."""

from __future__ import annotations

from pathlib import Path

import click

from ct_ops_agent.catalog import Catalog, CatalogError
from ct_ops_agent.cli.configuration import config_option
from ct_ops_agent.cli.exits import fail
from ct_ops_agent.config.load import Flags, load_config
from ct_ops_agent.errors import ConfigError
from ct_ops_agent.service.unit import collectors_drop_in, unit_text


@click.command()
@config_option
@click.option(
    "-for-collectors",
    "--for-collectors",
    "only_privileges",
    is_flag=True,
    help="Print the drop-in that the named collectors need, by default every one that runs here.",
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
def unit(*, config_file: Path | None, only_privileges: bool, names: tuple[str, ...]) -> None:
    """Print the systemd unit, or the drop-in that a collector's privilege needs.

    Nothing is written: what is granted to a service is for an operator to read first.
    """
    if names and not only_privileges:
        raise click.UsageError("names of collectors go with --for-collectors")
    if not only_privileges:
        click.echo(unit_text(), nl=False)
        return
    allowed, running = _configured(config_file)
    catalog = Catalog(allowed)
    wanted = tuple(part for name in names for part in name.split(",") if part) or running
    try:
        abouts = [catalog.load(name).about for name in dict.fromkeys(wanted)]
    except CatalogError as error:
        known = ", ".join(catalog.names)
        raise click.UsageError(f"{error}; known are: {known}") from error
    text = collectors_drop_in(abouts)
    click.echo(text or "# These collectors need nothing beyond the unit.\n", nl=False)


def _configured(config_file: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the plug-ins that the configuration allows, and the catalogue's collectors that it runs."""
    try:
        collectors = load_config(Flags(config_file=config_file), {}).config.collectors
    except ConfigError as error:
        if config_file is not None:
            fail(error)
        return (), ()  # whoever may not read the usual file can still name the built-in ones
    names = set(Catalog(collectors.allowed).names)
    return collectors.allowed, tuple(plan.name for plan in collectors.plans if plan.name in names)
