"""The tables of a hurry (``fleet.hurry``): the latest one, and whom it made to renew."""

from __future__ import annotations

import sqlalchemy as sa

from ct_ops_server.store.schema import Bytes, Flag, Integer64, metadata

hurries = sa.Table(
    "hurries",
    metadata,
    sa.Column("only_row", Integer64, primary_key=True, autoincrement=False),
    sa.Column("target", Bytes, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("started_by", sa.Text, nullable=False),
    sa.Column("started_at", Integer64, nullable=False),
    sa.Column("last_sent_at", Integer64),
    sqlite_strict=True,
)

hurried = sa.Table(
    "hurried",
    metadata,
    sa.Column("agent_id", sa.Text, sa.ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    # Of the stream that is told: a later one means that the agent is back.
    sa.Column("generation", Integer64, nullable=False),
    sa.Column("picked_at", Integer64, nullable=False),
    sa.Column("pushed_at", Integer64),
    sa.Column("back_at", Integer64),
    # Somebody looked at those that did not come back, and went on.
    sa.Column("excused", Flag, nullable=False),
    sqlite_strict=True,
)
