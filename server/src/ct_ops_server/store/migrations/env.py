"""Alembic's entry: configures it for the connection in ``config.attributes`` and runs what it is asked."""

from __future__ import annotations

from alembic import context

from ct_ops_server.store.all_tables import metadata
from ct_ops_server.store.partition_names import is_partition


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Leave out partitions: those that there are depends on the time."""
    return kind != "table" or name is None or not is_partition(name)


_connection = context.config.attributes["connection"]

context.configure(
    connection=_connection,
    target_metadata=metadata,
    compare_type=True,
    include_name=_is_ours,
    # SQLite cannot alter a column: Alembic rebuilds the table instead.
    render_as_batch=_connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
