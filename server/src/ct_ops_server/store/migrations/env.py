"""Alembic's entry: configures it for the connection in ``config.attributes`` and runs what it is asked."""

from __future__ import annotations

from alembic import context

from ct_ops_server.store.all_tables import metadata

_connection = context.config.attributes["connection"]

context.configure(
    connection=_connection,
    target_metadata=metadata,
    compare_type=True,
    # SQLite cannot alter a column: Alembic rebuilds the table instead.
    render_as_batch=_connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
