"""``ct-ops-server config``: what is in effect, and whether a server could start with it."""

from __future__ import annotations

import os

import click

from ct_ops_server.cli.exits import Exit, errors_as_exits
from ct_ops_server.cli.output import print_json, table
from ct_ops_server.config.load import check as problems_of
from ct_ops_server.config.load import describe, load_settings

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command()
@_json
def check(*, as_json: bool) -> None:
    """List every problem of the settings; exit 78 when there is one."""
    problems = problems_of(os.environ)
    if as_json:
        print_json([{"name": item.name, "what": item.what, "remedy": item.remedy} for item in problems])
    else:
        click.echo("\n".join(map(str, problems)) or "the settings are fine")
    if problems:
        raise SystemExit(Exit.CONFIGURATION)


@config.command()
@_json
def show(*, as_json: bool) -> None:
    """Show every setting with its value and where that came from. Passwords are masked."""
    with errors_as_exits():
        shown = describe(load_settings(os.environ))
    if as_json:
        print_json(shown)
    else:
        click.echo(
            table(("NAME", "VALUE", "SOURCE"), [(row["name"], row["value"], row["source"]) for row in shown])
        )
