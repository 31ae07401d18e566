"""Revision 0015: keys that more than one host holds, or that another one has followed on new hardware.

Columns are spelled out here and not taken from ``side_tables``: that module moves on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Create the table; operators fill it."""
    op.create_table(
        "barred_keys",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("key_id", "agent_id", "why")),
        sa.Column("barred_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_barred_keys")),
        sqlite_strict=True,
    )
