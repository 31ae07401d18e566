"""``ct-ops-server db``: a backup of the whole installation, and the way back from it.

``database`` copies the database alone, for the way back from an upgrade on this host.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ct_ops_server.cli.audit import heads_of, note
from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits, tidy_when_stopped
from ct_ops_server.cli.output import print_json
from ct_ops_server.cli.passphrases import read_passphrase
from ct_ops_server.config.load import load_settings
from ct_ops_server.ownership import become_owner, owned, refuse_strangers

if TYPE_CHECKING:
    from ct_ops_server.audit.heads import SignedHead
    from ct_ops_server.backup.contents import About
    from ct_ops_server.backup.returning import Returned
    from ct_ops_server.backup.since import Since
    from ct_ops_server.config.schema import Settings
    from ct_ops_server.drill import Proven

_PATIENCE_S = 2.0  # a server that is stopping lets go; one that runs does not
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
    for path in made.left_out:
        click.echo(f"warning: {path} is no file of ours and not in the backup", err=True)
    note("database.backed_up", output.name, bytes=made.size)
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
    "--audit",
    "audit_dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder with the audit files that are newer than the backup [default: audit in the data directory].",
)
@click.option(
    "--head",
    "head_files",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    help="A signed head that was kept elsewhere (head.json): what it names has to be in the audit files.",
)
@click.option(
    "--forget-revocations",
    is_flag=True,
    help="Restore although nothing, or not everything, tells what was revoked or deleted since the backup. What is told "
    "is done again all the same.",
)
@click.option(
    "--keep-tokens",
    is_flag=True,
    help="Leave enrolment tokens usable although nothing tells of their uses since.",
)
@click.option(
    "--drill",
    "is_drill",
    is_flag=True,
    help="Only prove that it would work: restore into a temporary folder (TMPDIR) and database, start a server there, "
    "ask whether it is ready, and remove all of it.",
)
@_json
def restore(*, file: Path, passphrase_file: Path | None, is_drill: bool, as_json: bool, **said: Any) -> None:
    """Make this host's installation the one of the backup FILE. No server may run on its database."""
    passphrase = read_passphrase(passphrase_file, new=False)
    with _errors(), file.open("rb") as opened:  # by whoever asked: the data's owner may not read it
        if is_drill:
            proven = _drill(opened, passphrase, said["audit_dir"], said["head_files"])
            print_json(asdict(proven)) if as_json else click.echo("\n".join(what_was_proven(proven)))
            return
        done = _restore(opened, passphrase, **said)
    if as_json:
        print_json(_view(done))
    else:
        from ct_ops_server.cli.restore_output import what_was_done  # noqa: PLC0415 - keeps --help light

        click.echo("\n".join(what_was_done(done)))


def _restore(
    opened: BinaryIO,
    passphrase: bytes,
    *,
    audit_dir: Path | None,
    head_files: Sequence[Path],
    **choices: bool,
) -> Returned:
    from ct_ops_server.backup.returning import Choices, return_backup  # noqa: PLC0415 - keeps --help light
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415

    settings, who, kept = load_settings(os.environ), actor(), heads_of(head_files)
    become_owner(settings.data_dir)
    told = _told(settings, audit_dir, kept, forgiving=choices["forget_revocations"])
    chosen = Choices(**choices, actor=who)
    with owned(settings.data_dir, patience_s=_PATIENCE_S):
        return return_backup(settings, opened, passphrase, chosen, told=told, now=datetime.now(UTC))


def _drill(opened: BinaryIO, passphrase: bytes, audit_dir: Path | None, head_files: Sequence[Path]) -> Proven:
    from ct_ops_server.core import utc_now  # noqa: PLC0415 - keeps --help light
    from ct_ops_server.drill import drill  # noqa: PLC0415

    settings = load_settings(os.environ)
    told = _told(settings, audit_dir, heads_of(head_files), forgiving=True)
    return asyncio.run(drill(settings, opened, passphrase, told=told, now=utc_now))


def _told(
    settings: Settings, audit_dir: Path | None, kept: Sequence[SignedHead], *, forgiving: bool
) -> Callable[[About], Since | None]:
    """Return how to ask the audit files what was decided since a backup."""
    from ct_ops_server.audit.entries import Link  # noqa: PLC0415 - keeps --help light
    from ct_ops_server.audit.keys import parse_key_hex  # noqa: PLC0415
    from ct_ops_server.audit.reading import DIRECTORY  # noqa: PLC0415
    from ct_ops_server.backup.since import read_since  # noqa: PLC0415

    directory = audit_dir or settings.data_dir / DIRECTORY

    def told(about: About) -> Since | None:
        end = Link(about.audit_seq, bytes.fromhex(about.audit_hash))
        keys = [key for key in map(parse_key_hex, about.audit_keys) if key is not None]
        of = about.installation_id
        return read_since(directory, end, keys=keys, installation=of, kept=kept, forgiving=forgiving)

    return told


def what_was_proven(proven: Proven) -> list[str]:
    """Return what an operator has to know of a drill, in sentences."""
    took = f"it took {proven.seconds:.0f} s, and everything of it is removed"
    return [*(f"proven: {each}" for each in proven.sentences), f"note: {proven.note}", took]


def _view(done: Returned) -> dict[str, object]:
    from ct_ops_server.cli.restore_output import disbelieved_view  # noqa: PLC0415 - keeps --help light

    return {
        "made_at_ms": done.about.made_at_ms,
        "replayed": dict(done.settled.replayed),
        "kept": None if done.kept is None else str(done.kept),
        "audit_aside": None if done.audit_aside is None else str(done.audit_aside),
        "left_alone": [str(path) for path in done.left_alone],
        "tokens_revoked": done.settled.tokens_revoked,
        "vouched_through": None if done.since is None else done.since.vouched_through,
        "disbelieved": disbelieved_view(done.since),
        "flaw": "" if done.since is None else done.since.flaw,
    }


@contextmanager
def _errors() -> Iterator[None]:
    from ct_ops_server.store.errors import BackupError  # noqa: PLC0415 - keeps --help light

    with errors_as_exits(), tidy_when_stopped():
        try:
            yield
        except BackupError as error:
            raise Stop(Exit.FAILED, str(error)) from error
