"""A copy of the database with what it holds, both of one moment.

Of SQLite the rows are counted in the copy. Of PostgreSQL the copy is pg_dump's, and it and the counting share one
exported snapshot: the counts are of the copy, also while servers write.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ct_ops_server.audit.decisions import Action
from ct_ops_server.audit.entries import START, Link
from ct_ops_server.audit.keys import announced, key_hex
from ct_ops_server.store import engines
from ct_ops_server.store.all_tables import metadata
from ct_ops_server.store.audit_reading import entry_from
from ct_ops_server.store.audit_tables import audit_entries, audit_head
from ct_ops_server.store.database_url import PostgresTarget, SqliteTarget, parse_database_url
from ct_ops_server.store.dump import write_dump
from ct_ops_server.store.errors import BackupError
from ct_ops_server.store.faults import store_error
from ct_ops_server.store.migrations import stored_revision
from ct_ops_server.store.schema import installation

_TELLING_OF_KEYS = sa.select(audit_entries).where(
    audit_entries.c.action.in_((Action.AUDIT_KEY_USED.value, Action.DATABASE_RESTORED.value))
)
_AUDIT_HEAD = sa.select(audit_head.c.seq, audit_head.c.hash)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the copy holds."""

    engine: str
    schema: str
    installation_id: str
    store_id: bytes
    counts: Mapping[str, int]
    audit_seq: int
    audit_hash: bytes
    """How far its audit log reaches."""
    audit_keys: tuple[str, ...] = ()
    """The public keys, in hex, that the audit log says sign its heads."""


def take_snapshot(url: str, copy: Path) -> Snapshot:
    """Write a copy of the database to a new file, also while servers write, and say what it holds.

    Raises:
        BackupError: it cannot be made.
        DatabaseUrlError: the address cannot be used.
        StoreError: the database does not answer.
    """
    target = parse_database_url(url)
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if isinstance(target, SqliteTarget):
        return _of_sqlite(target.path, copy)
    return asyncio.run(_of_postgres(target, copy))


def read_copy(copy: Path) -> Snapshot:
    """Say what a copy of a SQLite database holds.

    Raises:
        BackupError: it is none, or damaged.
    """
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(copy))
    try:
        with engine.connect() as connection:
            if connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() != "ok":
                raise BackupError(f"{copy} is damaged")
            return describe(connection)
    except SQLAlchemyError as error:
        raise BackupError(f"{copy} is no copy of a CT-Ops database: {error}") from error
    finally:
        engine.dispose()


def describe(connection: sa.Connection) -> Snapshot:
    """Say what a database holds, as the connection's transaction sees it.

    Raises:
        BackupError: it is none of ours.
    """
    schema = stored_revision(connection)
    if schema is None or (row := connection.execute(sa.select(installation)).first()) is None:
        raise BackupError("there is no database yet: it has no tables of ours")
    there = set(sa.inspect(connection).get_table_names())
    counts = {
        name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
        for name, table in sorted(metadata.tables.items())
        if name in there
    }
    reached = audit_reach(connection) or START
    keys = audit_keys(connection) if audit_entries.name in there else ()
    return Snapshot(
        connection.dialect.name, schema, row.id, row.store_id, counts, reached.seq, reached.hash, keys
    )


def audit_reach(connection: sa.Connection) -> Link | None:
    """Return how far the database's audit log reaches; None when its schema has none yet."""
    if not sa.inspect(connection).has_table(audit_head.name):
        return None
    head = connection.execute(_AUDIT_HEAD).one()
    return Link(head.seq, bytes(head.hash))


def audit_keys(connection: sa.Connection) -> tuple[str, ...]:
    """Return the public keys that the database's audit log announces, in hex."""
    return tuple(
        sorted(map(key_hex, announced(map(entry_from, connection.execute(_TELLING_OF_KEYS))).values()))
    )


def _of_sqlite(database: Path, copy: Path) -> Snapshot:
    if not database.exists():
        raise BackupError(f"there is no database yet: {database}")
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            # One file: what was copied says that it has a log beside it.
            target.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise BackupError(f"{database} cannot be copied: {error}") from error
    return read_copy(copy)


async def _of_postgres(target: PostgresTarget, copy: Path) -> Snapshot:
    engine = engines.read_engine(target)
    try:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            name = await connection.scalar(sa.select(sa.func.pg_export_snapshot()))
            snapshot = await connection.run_sync(describe)
            await asyncio.to_thread(write_dump, target, copy, snapshot=str(name))
            return snapshot
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise store_error(error) from error
    finally:
        await engine.dispose()
