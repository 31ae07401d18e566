"""Revision 0010: since when an authority or signing key has its state, sealed keys, what workers know of them.

Columns are spelled out here and not taken from ``schema``: that module moves on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns, empty: a state is as old as its row then, and a worker of before knows nothing."""
    op.add_column("authorities", sa.Column("changed_at", _INTEGER))
    op.add_column("signing_keys", sa.Column("changed_at", _INTEGER))
    op.add_column("workers", sa.Column("node", sa.Text))
    op.add_column("workers", sa.Column("trust_version", _INTEGER))
    op.create_table(
        "sealed_keys",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sealed_pem", sa.Text, nullable=False),
        sa.Column("recorded_at", _INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sealed_keys")),
        sqlite_strict=True,
    )
