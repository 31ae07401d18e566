"""Revision 0013: an index of the queries that wait for an answer.

Columns are spelled out here and not taken from ``schema``: that module moves on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create it."""
    is_open = sa.text("answered_at IS NULL")
    op.create_index(
        "ix_queries_open", "queries", ["expires_at"], postgresql_where=is_open, sqlite_where=is_open
    )
