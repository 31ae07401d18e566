"""``ct-ops-server database``: a copy before an upgrade, the upgrade of the schema, and the way back.

``serve`` migrates by itself; ``migrate`` is for whoever wants to know how it went before anything is served.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.config.load import load_settings
from ct_ops_server.ownership import become_owner, owned

if TYPE_CHECKING:
    from ct_ops_server.audit.entries import Link
    from ct_ops_server.config.schema import Settings
    from ct_ops_server.store.backup import Restored

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_PATIENCE_S = 10.0


@click.group()
def database() -> None:
    """Copy the database, bring its schema up to date, and go back to a copy."""


@database.command()
@_file
def backup(*, file: Path) -> None:
    """Write a copy of the database to FILE, also while a server runs (of PostgreSQL, with pg_dump).

    For the way back from an upgrade on this host: `db backup` is what survives its loss. Of the copies in the
    data directory's folder backups the newest three are kept.
    """
    from ct_ops_server.store.backup import back_up, forget_old_copies  # noqa: PLC0415 - keeps others light

    with _as_owner() as settings:
        back_up(settings.database_url, file)
        folder = file.absolute().parent
        # Where upgrades put theirs; elsewhere they are the operator's.
        gone = forget_old_copies(folder) if folder == settings.data_dir / "backups" else []
    click.echo("\n".join((f"wrote {file}", *(f"removed {old}, there are newer ones" for old in gone))))


@database.command()
def migrate() -> None:
    """Bring the schema to this version's, which `serve` does too, and say how it went. No server may run.

    It is one transaction: when it fails, the database is as it was.
    """
    from ct_ops_server.store.opening import migrate as bring_up  # noqa: PLC0415 - keeps others light

    with _as_owner() as settings, owned(settings.data_dir, patience_s=_PATIENCE_S):
        before, after = asyncio.run(bring_up(settings.database_url))
    if before == after:
        click.echo(f"the database has schema {after} already")
    else:
        click.echo(f"the database went from schema {before or 'none'} to {after}")


@database.command()
@_file
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(*, file: Path, yes: bool) -> None:
    """Put the copy FILE in the place of the database, which is kept beside it. No server may run."""
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415
    from ct_ops_server.store.backup import restore as put_back  # noqa: PLC0415 - keeps others light

    if not yes:
        click.confirm("Everything that arrived since the copy was made will be missing. Go on?", abort=True)
    again: list[Mapping[str, int] | None] = []
    who = actor()  # before another user is become
    with _as_owner() as settings, owned(settings.data_dir, patience_s=_PATIENCE_S):
        done = put_back(
            settings.database_url,
            file,
            now=datetime.now(UTC),
            settle=lambda url: again.append(_decide_again(settings, url, actor=who)),
        )
    click.echo(
        "\n".join((f"restored from {file}", *what_is_missing(done), *what_was_decided_again(again[0])))
    )


def _decide_again(settings: Settings, url: str, *, actor: str) -> Mapping[str, int] | None:
    """Revoke and delete again whom the audit files say were revoked and deleted since (rule 25)."""
    from ct_ops_server.audit.reading import DIRECTORY  # noqa: PLC0415 - keeps others light
    from ct_ops_server.authority.audit_key import load_public_keys  # noqa: PLC0415
    from ct_ops_server.backup.since import read_since  # noqa: PLC0415
    from ct_ops_server.cli.restore_output import disbelieved_lines  # noqa: PLC0415
    from ct_ops_server.store.settling import Told, decide_again  # noqa: PLC0415

    def told(end: Link) -> Told | None:
        keys = load_public_keys(settings.data_dir)
        # An upgrade that must be taken back is not stopped by files with a flaw.
        since = read_since(settings.data_dir / DIRECTORY, end, keys=keys, forgiving=True)
        if since is None:
            return None
        for line in disbelieved_lines(since):
            click.echo(f"warning: {line}", err=True)
        return Told(since.events, since.chain, since.unvouched, not since.flaw)

    return asyncio.run(decide_again(url, told, actor=actor))


def what_was_decided_again(again: Mapping[str, int] | None) -> list[str]:
    """Return what an operator has to know of revocations and the like since the copy, in sentences."""
    if again is None:
        return ["nothing here tells what was revoked or deleted since the copy was made: revoke it again"]
    return [f"decided again since then: {count} {what}" for what, count in again.items()]


def what_is_missing(done: Restored) -> list[str]:
    """Return what an operator has to know of a way back, in sentences."""
    if done.kept is None:
        return []
    counted = ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in done.missing.items())
    lost = (
        f"of what arrived since the copy was made, {counted}"
        if counted
        else "what arrived since the copy was made"
    )
    return [f"not in it: {lost}; the database that was replaced is kept as {done.kept}"]


@contextmanager
def _as_owner() -> Iterator[Settings]:
    """Give the settings to a step that runs as the owner of the data; what stops it becomes an exit."""
    from ct_ops_server.store.errors import BackupError  # noqa: PLC0415 - keeps others light

    with errors_as_exits():
        settings = load_settings(os.environ)
        become_owner(settings.data_dir)
        try:
            yield settings
        except BackupError as error:
            raise Stop(Exit.FAILED, str(error)) from error
