"""``ct-ops-server database``: a copy before an upgrade, and the way back."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.config.load import load_settings
from ct_ops_server.ownership import become_owner, owned

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def database() -> None:
    """Copy the database, and go back to a copy."""


@database.command()
@_file
def backup(*, file: Path) -> None:
    """Write a copy of the database to FILE, also while a server runs (SQLite)."""
    from ct_ops_server.store.backup import BackupError, back_up  # noqa: PLC0415 - keeps others light

    with errors_as_exits():
        settings = load_settings(os.environ)
        become_owner(settings.data_dir)
        try:
            back_up(settings.database_url, file)
        except BackupError as error:
            raise Stop(Exit.FAILED, str(error)) from error
    click.echo(f"wrote {file}")


@database.command()
@_file
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(*, file: Path, yes: bool) -> None:
    """Put the copy FILE in the place of the database; what came since then is lost. No server may run."""
    from ct_ops_server.store.backup import BackupError  # noqa: PLC0415 - keeps others light
    from ct_ops_server.store.backup import restore as put_back  # noqa: PLC0415

    if not yes:
        click.confirm("Everything that arrived since the copy was made is lost. Go on?", abort=True)
    with errors_as_exits():
        settings = load_settings(os.environ)
        become_owner(settings.data_dir)
        with owned(settings.data_dir):
            try:
                put_back(settings.database_url, file)
            except BackupError as error:
                raise Stop(Exit.FAILED, str(error)) from error
    click.echo(f"restored from {file}")
