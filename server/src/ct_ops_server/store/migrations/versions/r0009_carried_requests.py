"""Revision 0009, carried requests: ids that were answered, so that a request is no use a second time.

Columns are spelled out here and not taken from the tables of today: those move on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "carried_requests",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("leaf_sha256", sa.LargeBinary, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("answered_at", _INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_carried_requests")),
        sqlite_strict=True,
    )
    op.create_index("ix_carried_requests_answered_at", "carried_requests", ["answered_at"])
