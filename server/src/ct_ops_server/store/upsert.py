"""Insert or update, on both databases: SQLAlchemy spells ON CONFLICT once for each dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.selectable import TableValuedAlias

Upsert = postgresql.Insert | sqlite.Insert


def upsert(connection: AsyncConnection, table: sa.Table, values: dict[str, Any], *, key: str) -> Insert:
    """Return an insert of ``values`` that overwrites the row with the same ``key``."""
    statement = _insert(connection, table).values(values)
    return _overwrite(statement, key, [name for name in values if name != key])


def upsert_from(connection: AsyncConnection, table: sa.Table, rows: TableValuedAlias, *, key: str) -> Insert:
    """Return an insert of all ``rows`` that overwrites those with the same ``key``."""
    names = list(rows.c.keys())
    # The WHERE is for SQLite, whose parser would take ON CONFLICT for the ON of a join.
    source = sa.select(*rows.c).where(sa.true())
    statement = _insert(connection, table).from_select(names, source)
    return _overwrite(statement, key, [name for name in names if name != key])


def insert_from(
    connection: AsyncConnection, table: sa.Table, names: Sequence[str], source: sa.Select[Any]
) -> Upsert:
    """Return an insert of what ``source`` selects, to which the caller adds what a conflict means."""
    # The WHERE is for SQLite, whose parser would take ON CONFLICT for the ON of a join.
    return _insert(connection, table).from_select(list(names), source.where(sa.true()))


def insert_if_absent(
    connection: AsyncConnection, table: sa.Table, values: dict[str, Any], *, key: str
) -> Insert:
    """Return an insert that does nothing when a row with the same ``key`` exists."""
    return _insert(connection, table).values(values).on_conflict_do_nothing(index_elements=[key])


def insert_many_or_merge(
    connection: AsyncConnection,
    table: sa.Table,
    names: Sequence[str],
    *,
    key: Sequence[str],
    merge: Callable[[Any], dict[str, Any]],
    **constants: Any,
) -> Insert:
    """Return an insert for many rows with the columns ``names``.

    A row with the same ``key`` as one that is there changes that one, as ``merge`` says of the new one.
    """
    values = {name: sa.bindparam(name) for name in names} | constants
    statement = _insert(connection, table).values(values)
    return statement.on_conflict_do_update(index_elements=key, set_=merge(statement.excluded))


def insert_from_if_absent(
    connection: AsyncConnection, table: sa.Table, rows: TableValuedAlias, *, key: Sequence[str]
) -> Insert:
    """Return an insert of all ``rows``, skipping those whose ``key`` exists."""
    source = sa.select(*rows.c).where(sa.true())
    statement = _insert(connection, table).from_select(list(rows.c.keys()), source)
    return statement.on_conflict_do_nothing(index_elements=key)


def merge_from(
    connection: AsyncConnection,
    table: sa.Table,
    source: sa.Select[Any],
    *,
    key: Sequence[str],
    merge: Callable[[Any], dict[str, Any]],
) -> Insert:
    """Return an insert of a select's rows; a row with the same ``key`` changes as ``merge`` says of the new."""
    names = [str(column.key) for column in source.selected_columns]
    statement = _insert(connection, table).from_select(names, source.where(sa.true()))
    return statement.on_conflict_do_update(index_elements=key, set_=merge(statement.excluded))


def _insert(connection: AsyncConnection, table: sa.Table) -> Upsert:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def _overwrite(statement: Upsert, key: str, names: list[str]) -> Insert:
    changed = {name: statement.excluded[name] for name in names}
    return statement.on_conflict_do_update(index_elements=[key], set_=changed)
