"""Migrations of empty databases, as Alembic told them to the first one of this process.

So every process has run the real migrations once for each sort of database, and a test does not pay the tenth of a
second that Alembic takes to read them. A database that has a schema already is always migrated by Alembic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import sqlalchemy as sa

from ct_ops_server.store import migrations

_Told = tuple[str, Any]
_Migrate = Callable[[sa.Connection, str | None], None]


@contextmanager
def replayed_migrations() -> Iterator[None]:
    """Have empty databases told what the first one of their sort was told."""
    told: dict[str, list[_Told]] = {}
    really, config = migrations._run, migrations.alembic_config

    def run(connection: sa.Connection, stored: str | None) -> None:
        if (
            stored is not None or migrations.alembic_config is not config
        ):  # a test has other plans with Alembic
            really(connection, stored)
        elif (script := told.get(connection.dialect.name)) is None:
            told[connection.dialect.name] = _recorded(connection, really)
        else:
            for statement, parameters in script:
                connection.exec_driver_sql(statement, parameters)

    with mock.patch.object(migrations, "_run", run):
        yield


def _recorded(connection: sa.Connection, really: _Migrate) -> list[_Told]:
    """Migrate an empty database; return every statement that changed it."""
    script: list[_Told] = []

    def hear(_c: object, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            script.append((statement, parameters or None))

    sa.event.listen(connection, "before_cursor_execute", hear)
    try:
        really(connection, None)
    finally:
        sa.event.remove(connection, "before_cursor_execute", hear)
    return script
