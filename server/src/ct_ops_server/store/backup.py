"""A copy of the database, and the way back to it.

An upgrade changes the schema, and the version before it refuses what it does not know: what undoes an upgrade
is a copy from before. Rules kept:

* A SQLite copy is made with SQLite's own backup, so it is whole also while a server writes; of PostgreSQL, ``dump``
  makes it. Either appears under its name when it is complete, never over another one.
* What is gone back to is another store: agents compare its id, and send again what they delivered since.
* Going back throws nothing away: the database that is replaced stays, under a name that is told, and so is what of
  it the copy does not have.
* No server opens what was put back before it was settled.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ct_ops_server.store.database_url import SqliteTarget, parse_database_url
from ct_ops_server.store.dump import ANOTHER_STORE, hold_back, let_in, read_dump, write_dump
from ct_ops_server.store.errors import BackupError

__all__ = ["BackupError", "Restored", "back_up", "forget_old_copies", "restore"]

_COMPANIONS = ("-wal", "-shm", "-journal")
_COUNTED = {
    "agents": "host",
    "tokens": "enrolment token",
    "checks": "check",
    "tasks": "task",
    "samples": "sample",
}
"""What an operator would miss, and what it is called."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a way back left behind."""

    kept: Path | None
    """The database that was replaced; None when there was none."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """How many of what, by its name, it had and the copy has not."""


def back_up(url: str, copy: Path) -> None:
    """Write a copy of the database at `url` to a new file, readable by its owner only.

    Raises:
        BackupError: it cannot be made.
        DatabaseUrlError: the address cannot be used.
    """
    target = parse_database_url(url)
    if not isinstance(target, SqliteTarget):
        _write_new(copy, lambda unfinished: write_dump(target, unfinished))
        return
    database = target.path
    if not database.exists():
        raise BackupError(f"there is no database yet: {database}")
    _write_new(copy, lambda unfinished: _copy_sqlite(database, unfinished))


def forget_old_copies(folder: Path, *, keep: int = 3) -> list[Path]:
    """Remove copies for upgrades but the newest, in a folder that holds them; return those that are gone.

    What was put aside when one was gone back to stays: it is nobody's copy.
    """
    copies = sorted(folder.glob("before-*"), key=lambda copy: copy.stat().st_mtime_ns, reverse=True)
    for old in copies[keep:]:
        old.unlink(missing_ok=True)
    return copies[keep:]


def restore(
    url: str, copy: Path, *, now: datetime, settle: Callable[[str], None] = lambda _url: None
) -> Restored:
    """Put a copy in the place of the database at `url`, which no server may be using.

    ``settle`` is handed the address of the copy before a server can open it: where that is interrupted, the way back has
    to be gone again.

    Raises:
        BackupError: it is no whole copy, or cannot be put there; the database is as it was.
        DatabaseUrlError: the address cannot be used.
    """
    target = parse_database_url(url)
    if not copy.is_file():
        raise BackupError(f"there is no copy: {copy}")
    stamp = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    if isinstance(target, SqliteTarget):
        return _restore_sqlite(target.path, copy, stamp, settle)
    kept: Path | None = copy.with_name(f"replaced-{stamp}.dump")
    try:
        back_up(url, copy.with_name(f"replaced-{stamp}.dump"))
    except BackupError as error:
        if "no database yet" not in str(error):
            raise
        kept = None
    read_dump(target, copy, then=ANOTHER_STORE + hold_back())
    settle(url)
    let_in(target)
    return Restored(kept)


def _restore_sqlite(database: Path, copy: Path, stamp: str, settle: Callable[[str], None]) -> Restored:
    _refuse_what_is_no_database(copy)
    unfinished = database.with_name(f".{database.name}.{os.getpid()}.new")
    try:
        _create(unfinished)
        _copy_sqlite(copy, unfinished)
        _make_another_store(unfinished)
        settle(f"sqlite:///{unfinished}")
        if not database.exists():
            unfinished.replace(database)
            return Restored(None)
        missing = _missing_in(copy, database)
        kept = database.with_name(f"{database.name}.replaced-{stamp}")
        # A second name, so that at no moment there is no database: a server would begin a new one.
        os.link(database, kept)
        _take_along(database, kept)
        unfinished.replace(database)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"{database} cannot be restored: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return Restored(kept, missing)


def _take_along(database: Path, kept: Path) -> None:
    """Give what is left of the database's log to the one that is kept: it must not be played into the other."""
    for companion in _COMPANIONS:
        with suppress(FileNotFoundError):
            database.with_name(database.name + companion).replace(kept.with_name(kept.name + companion))


def _write_new(copy: Path, write: Callable[[Path], None]) -> None:
    unfinished = copy.with_name(f".{copy.name}.{os.getpid()}.new")
    try:
        _create(unfinished)
        write(unfinished)
        os.link(unfinished, copy)  # unlike a rename, never over another copy
    except FileExistsError as error:
        raise BackupError(f"{copy} is there already: name another file") from error
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"{copy} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _create(file: Path) -> None:
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _copy_sqlite(database: Path, copy: Path) -> None:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _make_another_store(database: Path) -> None:
    with closing(sqlite3.connect(database)) as changed, changed:
        changed.execute("UPDATE installation SET store_id = randomblob(16)")


def _missing_in(copy: Path, database: Path) -> dict[str, int]:
    """Count what the database has and the copy has not; nothing when it cannot be read any more."""
    counts: dict[str, int] = {}
    try:
        with closing(sqlite3.connect(database)) as source:
            source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            source.execute("ATTACH ? AS copy", (str(copy),))
            for table, name in _COUNTED.items():
                with suppress(sqlite3.OperationalError):  # a table that one of the two does not have
                    counts[name] = _rows_missing(source, table)
    except sqlite3.Error:
        return {}
    return {name: count for name, count in counts.items() if count}


def _rows_missing(source: sqlite3.Connection, table: str) -> int:
    columns = source.execute("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (table,))
    key = ", ".join(f'"{name}"' for (name,) in columns)
    asked = f'SELECT {key} FROM main."{table}" EXCEPT SELECT {key} FROM copy."{table}"'  # noqa: S608 - names of ours
    return int(source.execute(f"SELECT count(*) FROM ({asked})").fetchone()[0])  # noqa: S608


def _refuse_what_is_no_database(copy: Path) -> None:
    try:
        with closing(sqlite3.connect(copy)) as source:
            said = source.execute("PRAGMA integrity_check").fetchone()
            versioned = source.execute("SELECT count(*) FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise BackupError(f"{copy} is no copy of a CT-Ops database: {error}") from error
    if said != ("ok",) or versioned != (1,):
        raise BackupError(f"{copy} is damaged")
