"""Migrations: from any older schema to this one.

Alembic runs them from inside the package, in one transaction, on a connection it is handed. It is
imported only when there is something to do: most starts find ``HEAD`` in the database, and Alembic
costs a server 40 MB.

A new revision: a module ``rNNNN_….py`` in ``versions`` with the next number, whose ``down_revision`` is the
present ``HEAD``; tests compare the migrated database with ``schema``, and ``HEAD`` with what Alembic finds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ct_ops_server.store.errors import RestoreUnfinishedError, SchemaNewerError

if TYPE_CHECKING:
    from alembic.config import Config

_SCRIPTS = frozenset(
    file.name[1:5] for file in (Path(__file__).parent / "versions").glob("r[0-9][0-9][0-9][0-9]_*.py")
)
HEAD = max(_SCRIPTS)
"""The revision this code was written for: the newest there is a script for."""

UNSETTLED = "restoring"
"""How the revision of a restored database begins until it is settled: no server opens it."""

LOCK_TIMEOUT_S = 2
"""How long a migration on PostgreSQL waits for a table: servers of before that still run wait behind it."""

_VERSION = sa.table("alembic_version", sa.column("version_num", sa.String))
_LOCK = 0x63742D6F7073  # "ct-ops": any constant will do, as long as all workers take the same


def stored_revision(connection: sa.Connection) -> str | None:
    """Return the revision of the database's schema; None when it has none yet."""
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    return connection.scalar(sa.select(_VERSION.c.version_num))


def is_known(revision: str) -> bool:
    """Return whether this code can bring a database of this revision to its own; a newer one it cannot."""
    return revision in _SCRIPTS


def upgrade(connection: sa.Connection) -> None:
    """Run the missing migrations in the connection's transaction.

    Raises:
        DBAPIError: also when a table was not to be had in ``LOCK_TIMEOUT_S``; nothing has changed then.
        SchemaNewerError: the database has a revision that this code does not know.
    """
    if connection.dialect.name == "postgresql":
        # Workers that start together: the first one migrates, the others find it done.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    stored = stored_revision(connection)
    if stored == HEAD:
        return
    if connection.dialect.name == "postgresql":
        # A table is changed alone. Waiting for a long reader, a dump for instance, would hold up everybody behind.
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
    _run(connection, stored)


def alembic_config(connection: sa.Connection) -> Config:
    """Return Alembic's configuration for this package on ``connection``."""
    from alembic.config import Config  # noqa: PLC0415 - 40 MB that most starts can do without

    config = Config()
    config.set_main_option("script_location", "ct_ops_server.store:migrations")
    config.attributes["connection"] = connection
    return config


def _run(connection: sa.Connection, stored: str | None) -> None:
    from alembic import command  # noqa: PLC0415 - see alembic_config
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if stored is not None and stored.startswith(UNSETTLED):
        raise RestoreUnfinishedError
    if stored is not None and stored not in known:
        raise SchemaNewerError(stored, HEAD)
    command.upgrade(config, HEAD)
