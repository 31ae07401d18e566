"""The tables of the audit log: its entries, and the one row that says how far the chain reaches."""

from __future__ import annotations

import sqlalchemy as sa

from ct_ops_server.store.schema import Bytes, Document, Integer64, metadata

_concerns_an_agent = sa.text("agent_id <> ''")

audit_entries = sa.Table(
    "audit_entries",
    metadata,
    # Numbered under the lock of the head's row, which is kept until the commit: the numbers have the order of
    # the commits and no holes.
    sa.Column("seq", Integer64, primary_key=True, autoincrement=False),
    sa.Column("at", Integer64, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    # Without a reference: what was decided about an agent outlives it.
    sa.Column("agent_id", sa.Text, nullable=False),
    sa.Column("token_id", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("details", Document, nullable=False),
    sa.Column("hash", Bytes, nullable=False),
    sa.Index(
        None,
        "agent_id",
        "seq",
        postgresql_where=_concerns_an_agent,
        sqlite_where=_concerns_an_agent,
    ),
    sqlite_strict=True,
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("only_row", Integer64, sa.CheckConstraint("only_row = 1", "only_row"), primary_key=True),
    sa.Column("seq", Integer64, nullable=False),
    sa.Column("hash", Bytes, nullable=False),
    # The anchor: the last entry that was removed. The oldest one that is left follows it.
    sa.Column("anchor_seq", Integer64, nullable=False),
    sa.Column("anchor_hash", Bytes, nullable=False),
    postgresql_with={"fillfactor": 60},
    sqlite_strict=True,
)
