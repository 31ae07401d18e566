"""The table of carried requests that were answered. The rules of ``schema`` hold here too."""

from __future__ import annotations

import sqlalchemy as sa

from ct_ops_server.store.schema import Integer64, metadata

carried_requests = sa.Table(
    "carried_requests",
    metadata,
    # Without a reference to agents: a deleted one shall not come back by a file that is shown again.
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("agent_id", sa.Text, nullable=False),
    sa.Column("leaf_sha256", sa.LargeBinary, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("answered_at", Integer64, nullable=False, index=True),
    sqlite_strict=True,
)
