"""A backup into an empty folder, and whether it is whole. Nothing here knows an installation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ct_ops_server.audit.heads import parse_public_keys
from ct_ops_server.audit.keys import key_hex
from ct_ops_server.authority.audit_key import PUBLIC_FILE
from ct_ops_server.backup.contents import ABOUT, DATABASE, About, parse_about, read_contents, read_first
from ct_ops_server.backup.envelope import EnvelopeReader
from ct_ops_server.backup.errors import BackupError, DamagedError


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A whole backup in a folder."""

    about: About
    files: dict[str, Path]
    """By the name of the entry."""

    @property
    def database(self) -> Path:
        """The copy of the database."""
        return self.files[DATABASE]


def peek(backup: BinaryIO, passphrase: bytes) -> About:
    """Return what an open backup says of itself; it stands at its beginning again afterwards.

    Raises:
        WrongPassphraseError, DamagedError, NewerBackupError: see ``errors``.
    """
    about = parse_about(read_first(EnvelopeReader(backup, passphrase)))
    backup.seek(0)
    return about


def unpack(backup: BinaryIO, passphrase: bytes, folder: Path) -> Unpacked:
    """Decrypt an open backup into ``folder``, which is empty and its owner's only.

    Raises:
        WrongPassphraseError, DamagedError, NewerBackupError: see ``errors``; the folder holds rubbish.
        BackupError: it cannot be read, or not be written there.
    """
    files: dict[str, Path] = {}

    @contextmanager
    def place(name: str) -> Iterator[BinaryIO]:
        # Numbered: what an entry is called never becomes a path.
        files[name] = folder / f"{len(files):05}"
        descriptor = os.open(files[name], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    try:
        read_contents(EnvelopeReader(backup, passphrase), place=place)
    except OSError as error:
        raise BackupError(f"the backup cannot be unpacked: {error.strerror or error}") from error
    about = parse_about(files.pop(ABOUT).read_bytes())
    if set(files) != set(about.entries) or DATABASE not in files:
        raise DamagedError("this backup does not hold what it says")
    return Unpacked(_with_keys(about, files), files)


def _with_keys(about: About, files: Mapping[str, Path]) -> About:
    """Return what a backup says, with the audit key that lies in one of a version that did not say it."""
    public = files.get(f"data/{PUBLIC_FILE}")
    if about.audit_keys or public is None:
        return about
    try:
        return replace(about, audit_keys=tuple(map(key_hex, parse_public_keys(public.read_bytes()))))
    except ValueError:
        return about
