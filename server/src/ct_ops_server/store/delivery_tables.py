"""The tables of numbered delivery: positions of outboxes, gaps, and items that were refused.

The rules of ``schema`` hold here too.
"""

from __future__ import annotations

import sqlalchemy as sa

from ct_ops_server.store.schema import Integer64, metadata


def _agent() -> sa.Column[str]:
    target = sa.ForeignKey("agents.id", ondelete="CASCADE")
    return sa.Column("agent_id", sa.Text, target, primary_key=True)


outboxes = sa.Table(
    "outboxes",
    metadata,
    _agent(),
    # Hexadecimal, both: what they are compared with comes in JSON.
    sa.Column("outbox_id", sa.Text, primary_key=True),
    sa.Column("seq", Integer64, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("stored_at", Integer64, nullable=False),
    # Which outbox of its agent was used last. No clock: several may be used in one millisecond.
    sa.Column("turn", Integer64, nullable=False),
    postgresql_with={"fillfactor": 60},
    sqlite_strict=True,
)

gaps = sa.Table(
    "gaps",
    metadata,
    _agent(),
    # SHA-256 of the gap, hexadecimal: one that is told again is the same gap.
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("items", Integer64, nullable=False),
    sa.Column("from_ms", Integer64, nullable=False),
    sa.Column("to_ms", Integer64, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("recorded_at", Integer64, nullable=False),
    sqlite_strict=True,
)

item_refusals = sa.Table(
    "item_refusals",
    metadata,
    # One row for a kind and a reason: however much an agent sends, this table does not grow with it.
    _agent(),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, primary_key=True),
    sa.Column("items", Integer64, nullable=False),
    sa.Column("first_at", Integer64, nullable=False),
    sa.Column("last_at", Integer64, nullable=False),
    sa.Column("example", sa.Text, nullable=False),
    sqlite_strict=True,
)
