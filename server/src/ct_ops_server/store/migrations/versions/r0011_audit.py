"""Revision 0011, the audit log: its entries, and how far the chain reaches.

Columns are spelled out here and not taken from the tables of today: those move on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_GENESIS = bytes(32)


def upgrade() -> None:
    """Create the tables, with a chain that nothing was appended to."""
    op.create_table(
        "audit_entries",
        sa.Column("seq", _INTEGER, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("at", _INTEGER, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("action", "actor", "agent_id", "token_id", "subject", "details")
        ),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_entries")),
        sqlite_strict=True,
    )
    about_one = sa.text("agent_id <> ''")
    op.create_index(
        op.f("ix_audit_entries_agent_id_seq"),
        "audit_entries",
        ["agent_id", "seq"],
        postgresql_where=about_one,
        sqlite_where=about_one,
    )
    head = op.create_table(
        "audit_head",
        sa.Column("only_row", _INTEGER, nullable=False),
        sa.Column("seq", _INTEGER, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("anchor_seq", _INTEGER, nullable=False),
        sa.Column("anchor_hash", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("only_row = 1", name=op.f("ck_audit_head_only_row")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_audit_head")),
        postgresql_with={"fillfactor": 60},
        sqlite_strict=True,
    )
    op.bulk_insert(
        head, [{"only_row": 1, "seq": 0, "hash": _GENESIS, "anchor_seq": 0, "anchor_hash": _GENESIS}]
    )
