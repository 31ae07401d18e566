"""Revision 0017: the server CAs of an installation, so that every node has the same ones.

Columns are spelled out here and not taken from the tables of today: those move on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FLAG = sa.Boolean().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table; until the next step what lies in files is all there is."""
    op.create_table(
        "server_cas",
        sa.Column("number", _INTEGER, autoincrement=False, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("certificate_pem", sa.Text, nullable=False),
        sa.Column("cross_pem", sa.Text),
        sa.Column("sealed_pem", sa.Text),
        sa.Column("by_time", _FLAG, nullable=False),
        sa.Column("recorded_at", _INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_server_cas")),
        sqlite_strict=True,
    )
