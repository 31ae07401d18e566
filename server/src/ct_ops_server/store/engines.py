"""Engines: how each database is opened for writing and for reading.

SQLite (rule 17): the driver's own transactions are off, because they start too late and lose
updates; a writer starts with ``BEGIN IMMEDIATE`` and so never has to give up half-way, a reader with
``BEGIN`` on a connection that cannot write at all. WAL lets both work at the same time, and
``synchronous=FULL`` makes a commit durable before it is acknowledged. The file is born readable by
its owner only; SQLite gives its companions (-wal, -shm) the same mode.

PostgreSQL: a statement that is not answered within 15 s is given up with its connection, so that a
dead network cannot hold the writer for ever. A migration may take as long as it needs. Readers open no
transaction, because each statement of one would see a moment of its own anyway (READ COMMITTED), and
BEGIN and ROLLBACK are two round trips of nothing. A connection that has rested is asked whether it still
lives before it is used: a restart of the database may have closed it.
"""

from __future__ import annotations

import math
import os
import stat
import time
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ct_ops_server.store.database_url import PostgresTarget, SqliteTarget, Target

_BUSY_TIMEOUT_S = 5.0
_COMMAND_TIMEOUT_S = 15.0
_READERS = 4
_RESTED_S = 1.0
"""A connection that was used less long ago is taken to live, unless its driver has seen it close: asking takes three round trips."""
_LAST_USED = "ct_ops_last_used_s"

_WRITER_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
_READER_PRAGMAS = ("query_only=ON",)
# Alembic rebuilds a SQLite table by dropping the old one, and with foreign keys on the dependants'
# rows would go with it.
_MIGRATION_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=OFF")


def write_engine(target: Target) -> AsyncEngine:
    """Return an engine with one connection, for the writer."""
    if isinstance(target, SqliteTarget):
        return _sqlite_engine(target, _WRITER_PRAGMAS, begin="BEGIN IMMEDIATE", connections=1)
    return _postgres_engine(target, connections=1)


def read_engine(target: Target) -> AsyncEngine:
    """Return an engine for reading."""
    if isinstance(target, SqliteTarget):
        return _sqlite_engine(target, _READER_PRAGMAS, begin="BEGIN", connections=_READERS)
    engine = _postgres_engine(target, connections=_READERS, isolation_level="AUTOCOMMIT")
    _look_at_the_rested(engine)
    return engine


def listen_engine(target: PostgresTarget) -> AsyncEngine:
    """Return an engine for the connection that listens for hints; to be disposed of after use."""
    return _postgres_engine(target, connections=1)


def migration_engine(target: Target) -> AsyncEngine:
    """Return an engine for changing the schema; to be disposed of after use."""
    if isinstance(target, SqliteTarget):
        return _sqlite_engine(target, _MIGRATION_PRAGMAS, begin="BEGIN IMMEDIATE", connections=1)
    return _postgres_engine(target, connections=1, command_timeout_s=None)


def claim_file(path: Path) -> None:
    """Create the database file (0600) and its folder (0700) unless they exist; close it to others.

    Raises:
        OSError: the folder or the file cannot be created or opened.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & 0o077:
            os.fchmod(descriptor, mode & 0o700)
    finally:
        os.close(descriptor)


def _sqlite_engine(
    target: SqliteTarget, pragmas: tuple[str, ...], *, begin: str, connections: int
) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(target.path)),
        connect_args={"isolation_level": None, "timeout": _BUSY_TIMEOUT_S},
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
    )

    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", start)
    return engine


def _postgres_engine(
    target: PostgresTarget,
    *,
    connections: int,
    isolation_level: Literal["AUTOCOMMIT"] | None = None,
    command_timeout_s: float | None = _COMMAND_TIMEOUT_S,
) -> AsyncEngine:
    return create_async_engine(
        target.url,
        connect_args={"command_timeout": command_timeout_s, **target.connect_args},
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        **({"isolation_level": isolation_level} if isolation_level else {}),
    )


def _look_at_the_rested(engine: AsyncEngine) -> None:
    """Let the pool replace a connection that died while it rested, however short that was."""
    dialect = engine.dialect

    def look(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        driver: Any = record.driver_connection
        if driver.is_closed():
            raise DisconnectionError
        if time.monotonic() - record.info.get(_LAST_USED, -math.inf) < _RESTED_S:
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool opens another one

    def rest(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info[_LAST_USED] = time.monotonic()

    event.listen(engine.sync_engine, "checkout", look)
    event.listen(engine.sync_engine, "checkin", rest)
