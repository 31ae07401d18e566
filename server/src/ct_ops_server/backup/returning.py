"""An unpacked backup into the place of an installation.

In this order, so that a server finds what was there, or all of the backup, or a mark that it may not start:

1. Unpack, compare every digest, and refuse what this version cannot read. Nothing was touched.
2. Look at what is there. Something is: refused, unless it is to be replaced, and then it is kept aside.
3. Settle the copy of a SQLite database (``store.settling``) where it lies.
4. Put the mark; keep aside what is there; put the files and the database in place; settle one of PostgreSQL;
   remove the mark.

Whoever calls holds the data directory, so no server of this host runs; that none of another host does, its lease in
the database says.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ct_ops_server.audit.reading import DIRECTORY
from ct_ops_server.authority.files import sync_directory
from ct_ops_server.backup import audit_folder, belongings, placing
from ct_ops_server.backup.contents import About
from ct_ops_server.backup.errors import BackupError, NewerBackupError, OccupiedError
from ct_ops_server.backup.scratch import scratch_folder
from ct_ops_server.backup.since import Since
from ct_ops_server.backup.unpacking import Unpacked, unpack
from ct_ops_server.config.schema import Settings
from ct_ops_server.store.database_url import PostgresTarget, SqliteTarget, Target, parse_database_url
from ct_ops_server.store.dump import marking, read_dump, write_dump
from ct_ops_server.store.migrations import UNSETTLED, is_known
from ct_ops_server.store.occupancy import Occupancy, occupancy_of
from ct_ops_server.store.settling import Settled, Terms, settle
from ct_ops_server.store.snapshot import read_copy

_WOULD_RESURRECT = (
    "nothing tells what was revoked or deleted since the backup, and a restore would let those hosts in again: name the "
    "folder audit of the lost server, or a copy of it, with --audit DIR; without one, --forget-revocations restores all the "
    "same, and you revoke them again before the server starts"
)
_COMPANIONS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Choices:
    """What an operator decided about a restore."""

    replace: bool = False
    """Keep aside what is there."""
    keep_tokens: bool = False
    forget_revocations: bool = False
    """Restore although nothing, or not everything, tells what was revoked since."""
    actor: str = "restore"
    """Whose word it is."""


@dataclass(frozen=True, slots=True)
class Returned:
    """What a restore did."""

    about: About
    settled: Settled
    kept: Path | None
    """The folder that holds what was there; None when nothing was."""
    left_alone: tuple[Path, ...]
    """Files of the operator that were there already."""
    since: Since | None
    """What was told."""
    audit_aside: Path | None = None
    """The folder that audit files of another installation went to; None: there were none."""


def return_backup(
    settings: Settings,
    backup: BinaryIO,
    passphrase: bytes,
    choices: Choices,
    *,
    told: Callable[[About], Since | None],
    now: datetime,
) -> Returned:
    """Make this installation the one of a backup.

    ``told`` returns what was decided since the backup was made; None when nothing tells.

    Raises:
        BackupError: it was refused, see ``errors``; nothing was changed.
        SchemaNewerError: a newer version of CT-Ops made the backup.
        StoreError: the database does not answer.
    """
    with scratch_folder(settings.data_dir) as scratch:
        unpacked = unpack(backup, passphrase, scratch)
        target = parse_database_url(settings.database_url)
        refuse_what_cannot_be_read(unpacked.about, target)
        since = told(unpacked.about)
        if since is None and not choices.forget_revocations:
            raise BackupError(_WOULD_RESURRECT)
        places = {
            name: belongings.place_of(name, settings)
            for name in unpacked.about.entries
            if belongings.is_file(name)
        }
        there = _what_is_there(settings, target, places, unpacked)
        _refuse_what_cannot_be_written(places[name] for name in places if name not in there.left_alone)
        there.refuse_unless(replace=choices.replace)
        return _put_in_place(_Move(settings, target, unpacked, places, there, choices, since, now))


def refuse_what_cannot_be_read(about: About, target: Target) -> None:
    """Refuse a copy of another sort of database, or of a schema that is not known here.

    Raises:
        BackupError, NewerBackupError: it is one.
    """
    wanted = "sqlite" if isinstance(target, SqliteTarget) else "postgresql"
    if about.engine != wanted:
        raise BackupError(
            f"the backup is of a {about.engine} database, and DATABASE_URL names a {wanted} one: set DATABASE_URL to "
            f"a {about.engine} database"
        )
    if not is_known(about.schema):
        raise NewerBackupError(f"the backup has schema {about.schema}")


def _refuse_what_cannot_be_written(paths: Iterable[Path]) -> None:
    """Refuse before anything is moved what would fail in the middle."""
    for path in paths:
        folder = next(each for each in path.parents if each.exists())
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BackupError(
                f"{path} cannot be written by this user: make {folder} writable, or let the settings name another place"
            )


@dataclass(frozen=True, slots=True)
class _There:
    """What is where the backup is to go."""

    files: tuple[Path, ...]
    left_alone: tuple[str, ...]
    database: Occupancy
    audit_of: str
    """The other installation whose audit files are there; empty: none."""

    @property
    def is_anything(self) -> bool:
        return bool(self.files) or self.database.is_there or bool(self.audit_of)

    def refuse_unless(self, *, replace: bool) -> None:
        if self.database.is_served:
            raise OccupiedError(
                "a server is running on this database: stop every server first, then wait 15 seconds"
            )
        if self.is_anything and not replace:
            names = [*map(str, self.files), *(["the database"] if self.database.is_there else [])]
            names += ["audit files of another one"] if self.audit_of else []
            raise OccupiedError(
                f"there is an installation already ({', '.join(names[:3])}{', …' if len(names) > 3 else ''}): "
                "--replace keeps it aside and restores"
            )


def _what_is_there(settings: Settings, target: Target, places: dict[str, Path], unpacked: Unpacked) -> _There:
    """Look at every file that the backup brings, and at what of ours would stay beside them."""
    operators = {name for name, path in places.items() if belongings.is_operators(name) and path.exists()}
    brought = {path for name, path in places.items() if name not in operators}
    same = {
        path
        for name, path in places.items()
        if path.exists() and path.read_bytes() == unpacked.files[name].read_bytes()
    }
    try:
        ours = set(belongings.present(settings).files.values())
    except BackupError:  # nothing here is a whole installation
        ours = set()
    inside = {path for path in ours if path.is_relative_to(settings.data_dir)}
    files = {path for path in brought | inside if path.exists()} - same
    occupancy = asyncio.run(occupancy_of(target))
    stranger = audit_folder.stranger_in(settings.data_dir / DIRECTORY, unpacked.about.installation_id)
    return _There(tuple(sorted(files)), tuple(sorted(operators)), occupancy, stranger)


@dataclass(frozen=True, slots=True)
class _Move:
    settings: Settings
    target: Target
    unpacked: Unpacked
    places: dict[str, Path]
    there: _There
    choices: Choices
    since: Since | None
    now: datetime

    @property
    def aside(self) -> Path:
        return self.settings.data_dir / f"replaced-{self.now.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    @property
    def audit_aside(self) -> Path | None:
        """Where the audit files of another installation go; None: there are none."""
        return self.aside / audit_folder.name_aside(self.there.audit_of) if self.there.audit_of else None


def _put_in_place(move: _Move) -> Returned:
    about = move.unpacked.about
    terms = Terms(
        copied_at_ms=about.made_at_ms,
        schema=about.schema,
        counts=about.counts,
        since=None if move.since is None else move.since.events,
        chain=() if move.since is None else move.since.chain,
        unvouched=(1, 0) if move.since is None else move.since.unvouched,
        tells_all=move.since is not None and not move.since.flaw,
        actor=move.choices.actor,
        keep_tokens=move.choices.keep_tokens,
    )
    mark = move.settings.data_dir / belongings.RESTORE_MARK
    settled = None
    try:
        if isinstance(move.target, SqliteTarget):
            read_copy(move.unpacked.database)
            settled = asyncio.run(settle(f"sqlite:///{move.unpacked.database}", terms))
        placing.write_mark(mark)
        if move.there.is_anything:
            _set_aside(move)
        for name, path in move.places.items():
            if name not in move.there.left_alone:
                placing.put(move.unpacked.files[name], path)
        if isinstance(move.target, SqliteTarget):
            placing.put(move.unpacked.database, move.target.path)
        else:
            read_dump(move.target, move.unpacked.database, then=marking(UNSETTLED))
        _carry_audit_files(move)
        settled = settled or asyncio.run(settle(move.settings.database_url, terms))
        mark.unlink()
        sync_directory(move.settings.data_dir)
    except OSError as error:
        raise BackupError(f"the backup cannot be put in place: {error}") from error
    kept = move.aside if move.there.is_anything else None
    left = tuple(move.places[name] for name in move.there.left_alone)
    return Returned(move.unpacked.about, settled, kept, left, move.since, move.audit_aside)


def _carry_audit_files(move: _Move) -> None:
    """Take along the files that told of the time since; not those with a flaw: new ones begin with what the database has."""
    if move.since is not None and not move.since.flaw:
        audit_folder.carry(move.since.files, move.settings.data_dir / DIRECTORY)


def _set_aside(move: _Move) -> None:
    """Move what is there into one folder. A file from elsewhere cannot: it stays beside where it was."""
    move.aside.mkdir(mode=0o700)
    data_dir = move.settings.data_dir
    for path in move.there.files:
        if path.is_relative_to(data_dir):
            placing.move(path, move.aside / path.relative_to(data_dir))
        else:
            placing.move(path, path.with_name(f"{path.name}.{move.aside.name}"))
    if move.audit_aside is not None:
        placing.move(data_dir / DIRECTORY, move.audit_aside)
    if not move.there.database.is_there:
        return
    if isinstance(move.target, PostgresTarget):
        write_dump(move.target, move.aside / "database.dump")
        return
    database = move.target.path
    for companion in ("", *_COMPANIONS):
        found = database.with_name(database.name + companion)
        if found.exists():
            placing.move(found, move.aside / found.name)
