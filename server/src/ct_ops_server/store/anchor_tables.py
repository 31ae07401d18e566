"""The table of what agents say about the server CAs they believe."""

from __future__ import annotations

import sqlalchemy as sa

from ct_ops_server.store.schema import Integer64, metadata

agent_anchors = sa.Table(
    "agent_anchors",
    metadata,
    sa.Column("agent_id", sa.Text, sa.ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    # Digests in hex, sorted, a space between two.
    sa.Column("anchors", sa.Text, nullable=False),
    sa.Column("reported_at", Integer64, nullable=False),
    sqlite_strict=True,
)
