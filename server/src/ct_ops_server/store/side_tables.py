"""The tables of clones: agents' sides, and keys that more than one host holds. The rules of ``schema`` hold here."""

from __future__ import annotations

import sqlalchemy as sa

from ct_ops_server.store.schema import Document, Integer64, metadata

agent_sides = sa.Table(
    "agent_sides",
    metadata,
    sa.Column("agent_id", sa.Text, sa.ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    # Not columns of ``agents``: a heartbeat makes a new version of that row, with everything in it.
    sa.Column("document", Document, nullable=False),
    sqlite_strict=True,
)

barred_keys = sa.Table(
    "barred_keys",
    metadata,
    # Without a reference to agents, as tombstones: it bars the key also when the agent is deleted.
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("agent_id", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("barred_at", Integer64, nullable=False),
    sqlite_strict=True,
)
