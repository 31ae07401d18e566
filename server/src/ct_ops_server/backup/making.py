"""An installation, also of a running server, into one encrypted file.

The database first, the keys after it: a key that is made in between is in the file without its row, and a server makes
the row again; the other way round there would be a row without its key. The copy of the database is in the data
directory for a while, where nobody but its owner looks; only the encrypted file gets a name, when it is whole and
durable, and never another file's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ct_ops_server import version
from ct_ops_server.audit.keys import key_hex
from ct_ops_server.authority.audit_key import load_public_keys
from ct_ops_server.authority.files import sync_directory
from ct_ops_server.backup import belongings
from ct_ops_server.backup.contents import ABOUT, DATABASE, About, ContentsWriter
from ct_ops_server.backup.envelope import Cost, EnvelopeWriter
from ct_ops_server.backup.errors import BackupError
from ct_ops_server.backup.scratch import scratch_folder
from ct_ops_server.config.schema import Settings
from ct_ops_server.store.snapshot import take_snapshot


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made."""

    about: About
    size: int
    left_out: tuple[Path, ...]
    """Files of the data directory that are not ours."""


def make_backup(
    settings: Settings, file: Path, passphrase: bytes, *, now: datetime, cost: Cost | None = None
) -> Made:
    """Write a backup of the installation to a new file, readable by its owner only.

    Raises:
        BackupError: it cannot be made; there is no file.
        DatabaseUrlError, StoreError: the database cannot be used.
    """
    if file.exists():
        raise BackupError(f"{file} is there already: name another file")
    if file.is_relative_to(settings.data_dir):
        raise BackupError(f"{file} would be lost with the data directory it is in: name a file elsewhere")
    if not settings.data_dir.is_dir():
        raise BackupError(f"there is no installation yet: {settings.data_dir} does not exist")
    with scratch_folder(settings.data_dir) as scratch:
        copy = scratch / "database"
        snapshot = take_snapshot(settings.database_url, copy)
        there = belongings.present(settings)
        about = About(
            made_at_ms=round(now.timestamp() * 1000),
            made_by=version(),
            engine=snapshot.engine,
            schema=snapshot.schema,
            installation_id=snapshot.installation_id,
            counts=snapshot.counts,
            audit_seq=snapshot.audit_seq,
            audit_hash=snapshot.audit_hash.hex(),
            entries=(DATABASE, *there.files),
            audit_keys=tuple(
                sorted({*snapshot.audit_keys, *map(key_hex, load_public_keys(settings.data_dir))})
            ),
        )
        with _new_file(file) as sink:
            envelope = EnvelopeWriter(sink, passphrase, cost=cost or Cost())
            contents = ContentsWriter(envelope)
            text = about.to_json()
            contents.add(ABOUT, BytesIO(text), len(text))
            for name, path in {DATABASE: copy, **there.files}.items():
                _add(contents, name, path)
            contents.finish()
            envelope.finish()
    return Made(about, file.stat().st_size, there.left_out)


def _add(contents: ContentsWriter, name: str, path: Path) -> None:
    try:
        file = path.open("rb")
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        contents.add(name, file, os.fstat(file.fileno()).st_size)


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file (0600) that gets its name at the end of the block, durable; nothing is left when that fails."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)  # unlike a rename, never over another backup
        sync_directory(path.parent)
    except FileExistsError as error:
        raise BackupError(f"{path} is there already: name another file") from error
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
