"""``ct-ops-server config``: a sample, what is in effect, and whether a server could start with it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.cli.output import print_json, table
from ct_ops_server.config.load import check as problems_of
from ct_ops_server.config.load import describe, load_settings
from ct_ops_server.config.variables import ENV_FILE

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=ENV_FILE, show_default=True, help="Where to."
)
@click.option("--stdout", is_flag=True, help="Print it instead.")
def create(*, output: Path, stdout: bool) -> None:
    """Write a sample: every variable with its meaning and its default, commented out."""
    from ct_ops_server.config.sample import sample_env  # noqa: PLC0415 - only this command needs it

    if stdout:
        click.echo(sample_env(), nl=False)
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    except FileExistsError as error:
        raise Stop(Exit.USAGE, f"{output} is there already: -o writes elsewhere") from error
    except OSError as error:
        raise Stop(Exit.FAILED, f"{output} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(sample_env())
    click.echo(f"wrote {output}; change it, then: ct-ops-server config check")


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
