"""The table of agents' sides: one row an agent. The rules of ``schema`` hold here too."""

from __future__ import annotations

import sqlalchemy as sa

from ct_ops_server.store.schema import Document, metadata

agent_sides = sa.Table(
    "agent_sides",
    metadata,
    sa.Column("agent_id", sa.Text, sa.ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    # Not columns of ``agents``: a heartbeat makes a new version of that row, with everything in it.
    sa.Column("document", Document, nullable=False),
    sqlite_strict=True,
)
