"""A copy of a SQLite database, and the way back to it.

An upgrade changes the schema, and the version before it refuses what it does not know: what undoes an upgrade
is a copy from before. It is made with SQLite's own backup, so it is whole also while a server writes.

PostgreSQL has its own tools, and its own operators: there, a sentence says which.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from ct_ops_server.store.database_url import SqliteTarget, parse_database_url

_COMPANIONS = ("-wal", "-shm", "-journal")


class BackupError(Exception):
    """There is no copy, or no way back to it. ``str()`` says what to do."""


def back_up(url: str, copy: Path) -> None:
    """Write a copy of the database at `url` to a new file, readable by its owner only.

    Raises:
        BackupError: it cannot be made.
        DatabaseUrlError: the address cannot be used.
    """
    database = _file_of(url, "pg_dump --format=custom --file=FILE DATABASE")
    if not database.exists():
        raise BackupError(f"there is no database yet: {database}")
    unfinished = copy.with_name(f".{copy.name}.{os.getpid()}.new")
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
        os.link(unfinished, copy)  # unlike a rename, never over another copy
    except FileExistsError as error:
        raise BackupError(f"{copy} is there already: name another file") from error
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"{copy} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def restore(url: str, copy: Path) -> None:
    """Put a copy in the place of the database at `url`, which no server may be using.

    Raises:
        BackupError: it is no whole copy (the database is as it was), or cannot be put there.
        DatabaseUrlError: the address cannot be used.
    """
    database = _file_of(url, "pg_restore --clean --dbname=DATABASE FILE")
    _refuse_what_is_no_database(copy)
    unfinished = database.with_name(f".{database.name}.{os.getpid()}.new")
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
        # What is left of the other database's log must not be played into this one.
        for companion in _COMPANIONS:
            database.with_name(database.name + companion).unlink(missing_ok=True)
        unfinished.replace(database)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"{database} cannot be restored: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _file_of(url: str, instead: str) -> Path:
    target = parse_database_url(url)
    if isinstance(target, SqliteTarget):
        return target.path
    raise BackupError(f"the database is PostgreSQL: use its own tool: {instead}")


def _refuse_what_is_no_database(copy: Path) -> None:
    if not copy.is_file():
        raise BackupError(f"there is no copy: {copy}")
    try:
        with closing(sqlite3.connect(copy)) as source:
            said = source.execute("PRAGMA integrity_check").fetchone()
            versioned = source.execute("SELECT count(*) FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise BackupError(f"{copy} is no copy of a CT-Ops database: {error}") from error
    if said != ("ok",) or versioned != (1,):
        raise BackupError(f"{copy} is damaged")
