"""Revision 0016: agents that are made to renew their leaves now.

Columns are spelled out here and not taken from the tables of today: those move on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FLAG = sa.Boolean().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables; no hurry ever ran."""
    op.create_table(
        "hurries",
        sa.Column("only_row", _INTEGER, autoincrement=False, nullable=False),
        sa.Column("target", sa.LargeBinary, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("state", "reason", "started_by")),
        sa.Column("started_at", _INTEGER, nullable=False),
        sa.Column("last_sent_at", _INTEGER),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_hurries")),
        sqlite_strict=True,
    )
    op.create_table(
        "hurried",
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("generation", _INTEGER, nullable=False),
        sa.Column("picked_at", _INTEGER, nullable=False),
        sa.Column("pushed_at", _INTEGER),
        sa.Column("back_at", _INTEGER),
        sa.Column("excused", _FLAG, nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f("fk_hurried_agent_id_agents"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_hurried")),
        sqlite_strict=True,
    )
