"""Revision 0018: which step of the server CA each worker acts by.

Columns are spelled out here and not taken from the tables of today: those move on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the column, empty: a worker of before follows no step."""
    op.add_column("workers", sa.Column("server_ca_version", _INTEGER))
