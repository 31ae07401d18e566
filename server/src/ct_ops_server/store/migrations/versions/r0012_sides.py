"""Revision 0012: who has spoken as an agent.

Columns are spelled out here and not taken from ``side_tables``: that module moves on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the table; it fills when agents connect."""
    op.create_table(
        "agent_sides",
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_agent_sides")),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f("fk_agent_sides_agent_id_agents"), ondelete="CASCADE"
        ),
        sqlite_strict=True,
    )
