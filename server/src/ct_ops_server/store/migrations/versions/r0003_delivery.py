"""Revision 0003, numbered delivery: positions of outboxes, gaps, items that were refused.

Columns are spelled out here and not taken from the tables of today: those move on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "outboxes",
        *_of_agent("outboxes", "outbox_id"),
        _text("outbox_id"),
        _integer("seq"),
        _text("digest"),
        _integer("stored_at"),
        _integer("turn"),
        postgresql_with={"fillfactor": 60},
        sqlite_strict=True,
    )
    op.create_table(
        "gaps",
        *_of_agent("gaps", "digest"),
        _text("digest"),
        _text("type"),
        _integer("items"),
        _integer("from_ms"),
        _integer("to_ms"),
        _text("reason"),
        _integer("recorded_at"),
        sqlite_strict=True,
    )
    op.create_table(
        "item_refusals",
        *_of_agent("item_refusals", "kind", "reason"),
        _text("kind"),
        _text("reason"),
        _integer("items"),
        _integer("first_at"),
        _integer("last_at"),
        _text("example"),
        sqlite_strict=True,
    )


def _of_agent(table: str, *key: str) -> tuple[sa.schema.SchemaItem, ...]:
    return (
        _text("agent_id"),
        sa.PrimaryKeyConstraint("agent_id", *key, name=op.f(f"pk_{table}")),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f(f"fk_{table}_agent_id_agents"), ondelete="CASCADE"
        ),
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, _INTEGER, nullable=False)
