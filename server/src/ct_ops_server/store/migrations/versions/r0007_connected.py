"""Revision 0007: when an agent's latest stream opened.

Columns are spelled out here and not taken from ``schema``: that module moves on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; it is filled when the agent connects again."""
    op.add_column("agents", sa.Column("connected_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite")))
