"""The outbox's file: opened with suspicion, and set aside when it is damaged.

* A symbolic link is refused, as everywhere in the data directory: whoever can plant one could have the
  agent write somewhere else. So is what is no regular file.
* A file that others can read is closed again.
* A file that is damaged, of something else, or of a later version of the agent, is renamed to ``outbox.damaged`` (one is kept) and a new
  outbox begins. What the damaged one held cannot be counted: the gap says that there was one.

Write-ahead mode, and one connection that owns the file: a commit that must be durable is then one write and
one sync of one file, against four with a rollback journal, and a reader of the file is never in the way.
Nobody else opens it: the data directory belongs to one agent at a time.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path

from ct_ops_agent.delivery.tables import FORMAT, PAGE_BYTES
from ct_ops_agent.errors import DataDirectoryError

_log = logging.getLogger(__name__)

FILE_NAME = "outbox.sqlite3"
_ASIDE = "outbox.damaged"
_COMPANIONS = ("", "-wal", "-shm", "-journal")
_PRIVATE = 0o600
_OTHERS = 0o077
_WAL_PAGES = 256
WAL_BYTES = 4 * 1024 * 1024
"""What the write-ahead file may take beside the outbox itself."""

_PRIMARY_CODE = 0xFF
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_SETTINGS = (
    f"PRAGMA page_size = {PAGE_BYTES}",
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}",
    f"PRAGMA journal_size_limit = {WAL_BYTES}",
    "PRAGMA cache_size = -512",
    "PRAGMA temp_store = MEMORY",
)


@dataclass(frozen=True)
class Opened:
    """A connection, and whether there was a damaged file before it."""

    connection: sqlite3.Connection
    damaged_since_ms: int | None = None
    """When the damaged file was written last, by its own time; ``None``: there was none."""


class DamagedError(sqlite3.DatabaseError):
    """The file can be opened, and does not hold together."""


def is_damage(error: Exception) -> bool:
    """Whether a file is damaged or of something else, and not just in the way for now."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    return isinstance(error, DamagedError) or code in _DAMAGE


def open_file(directory: Path) -> Opened:
    """Open the outbox of a data directory, or begin one.

    Raises:
        DataDirectoryError: it is a symbolic link or no file.
        sqlite3.Error, OSError: the disk is full, read-only or broken.
    """
    path = directory / FILE_NAME
    for companion in _COMPANIONS:
        _look_at(path.with_name(path.name + companion))
    try:
        return Opened(_connect(path))
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return Opened(*_begin_again(path, error))


def set_aside(directory: Path) -> int:
    """Rename a damaged file; return when it was written last, in Unix milliseconds."""
    path = directory / FILE_NAME
    written_ms = int(path.stat().st_mtime * 1000)
    path.replace(path.with_name(_ASIDE))
    for companion in _COMPANIONS[1:]:
        path.with_name(path.name + companion).unlink(missing_ok=True)
    return written_ms


def open_memory() -> sqlite3.Connection:
    """Return a connection to nothing but memory."""
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _begin_again(path: Path, error: sqlite3.DatabaseError) -> tuple[sqlite3.Connection, int]:
    written_ms = set_aside(path.parent)
    _log.error("the outbox %s is damaged (%s): it is %s now, and what it held is lost", path, error, _ASIDE)
    return _connect(path), written_ms


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        for setting in _SETTINGS:
            connection.execute(setting).fetchall()
        _check(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedError(verdict)
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise DamagedError(f"a later version of the agent made it, format {found}")


def _look_at(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise DataDirectoryError(
            f"{path} is no regular file but {_kind(found.st_mode)}; the agent follows no links: move it away"
        )
    if found.st_mode & _OTHERS:
        path.chmod(_PRIVATE)
        _log.warning("%s could be read by others; it is %04o now", path, _PRIVATE)


def _kind(mode: int) -> str:
    return "a symbolic link" if stat.S_ISLNK(mode) else "something else"
