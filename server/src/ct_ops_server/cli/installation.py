"""``ct-ops-server db``: a backup of the whole installation, and the way back from it.

``database`` copies the database alone, for the way back from an upgrade on this host.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.cli.output import print_json
from ct_ops_server.cli.passphrases import read_passphrase
from ct_ops_server.config.load import load_settings
from ct_ops_server.ownership import become_owner, owned, refuse_strangers

if TYPE_CHECKING:
    from ct_ops_server.backup.returning import Returned

_PATIENCE_S = 10.0
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_passphrase = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file whose first line is the passphrase; else systemd's credential backup-passphrase, else "
    "CT_OPS_BACKUP_PASSPHRASE, else it is asked for.",
)


@click.group()
def db() -> None:
    """Back up the whole installation into one encrypted file, and restore it."""


@db.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The new file."
)
@_passphrase
@_json
def backup(*, output: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Write database, authorities, keys and secret to one encrypted file, also while a server runs.

    Whoever has the file and the passphrase can be this server: keep the two apart, and both off this host.
    """
    passphrase = read_passphrase(passphrase_file, new=True)
    with _errors():
        from ct_ops_server.backup.making import make_backup  # noqa: PLC0415 - keeps --help light

        settings = load_settings(os.environ)
        refuse_strangers(settings.data_dir)
        made = make_backup(settings, output.absolute(), passphrase, now=datetime.now(UTC))
    rows = sum(made.about.counts.values())
    if as_json:
        print_json({"file": str(output), "bytes": made.size, "rows": rows, "entries": made.about.entries})
    else:
        click.echo(f"wrote {output}: {made.size} bytes, {len(made.about.entries)} entries, {rows} rows")


@db.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_passphrase
@click.option("--replace", is_flag=True, help="Keep aside what is there, and restore.")
@click.option(
    "--forget-revocations",
    is_flag=True,
    help="Restore although nothing tells what was revoked or deleted since the backup.",
)
@click.option(
    "--keep-tokens", is_flag=True, help="Leave enrolment tokens usable that may have been used since."
)
@_json
def restore(
    *,
    file: Path,
    passphrase_file: Path | None,
    replace: bool,
    forget_revocations: bool,
    keep_tokens: bool,
    as_json: bool,
) -> None:
    """Make this host's installation the one of the backup FILE. No server may run on its database."""
    passphrase = read_passphrase(passphrase_file, new=False)
    with _errors(), file.open("rb") as opened:  # by whoever asked: the data's owner may not read it
        from ct_ops_server.backup.returning import Choices, return_backup  # noqa: PLC0415 - keeps --help light

        settings = load_settings(os.environ)
        become_owner(settings.data_dir)
        choices = Choices(replace=replace, keep_tokens=keep_tokens, forget_revocations=forget_revocations)
        with owned(settings.data_dir, patience_s=_PATIENCE_S):
            done = return_backup(
                settings, opened, passphrase, choices, told=lambda _: None, now=datetime.now(UTC)
            )
    if as_json:
        print_json(_view(done))
    else:
        click.echo("\n".join(what_was_done(done)))


def what_was_done(done: Returned) -> list[str]:
    """Return what an operator has to know of a restore, in sentences."""
    made = datetime.fromtimestamp(done.about.made_at_ms / 1000, UTC)
    said = [f"restored the backup of {made:%Y-%m-%d %H:%M:%S} UTC, {sum(done.about.counts.values())} rows"]
    if done.kept is not None:
        said.append(f"what was there is kept in {done.kept}")
    said += [f"left alone, because you look after it: {path}" for path in done.left_alone]
    said += [f"decided again since then: {count} {what}" for what, count in done.settled.replayed.items()]
    if done.settled.tokens_revoked:
        said.append(f"{done.settled.tokens_revoked} enrolment tokens are revoked: make new ones")
    said.append("start the server; agents come back by themselves and deliver again what they still hold")
    return said


def _view(done: Returned) -> dict[str, object]:
    return {
        "made_at_ms": done.about.made_at_ms,
        "replayed": dict(done.settled.replayed),
        "kept": None if done.kept is None else str(done.kept),
        "left_alone": [str(path) for path in done.left_alone],
        "tokens_revoked": done.settled.tokens_revoked,
    }


@contextmanager
def _errors() -> Iterator[None]:
    from ct_ops_server.store.errors import BackupError  # noqa: PLC0415 - keeps --help light

    with errors_as_exits():
        try:
            yield
        except BackupError as error:
            raise Stop(Exit.FAILED, str(error)) from error
