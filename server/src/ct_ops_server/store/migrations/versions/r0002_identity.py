"""Revision 0002, identity: terms of tokens, who was refused, what is left of a deleted agent, endings.

Columns are spelled out here and not taken from ``schema``: that module moves on, this one never.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add columns with a default for the rows there are, then the new tables."""
    _add("tokens", sa.Column("networks", sa.Text, nullable=False, server_default="[]"))
    _add("tokens", sa.Column("hostname_pattern", sa.Text, nullable=False, server_default=""))
    _add("tokens", sa.Column("revoked_by", sa.Text))
    _add("tokens", sa.Column("revoked_reason", sa.Text))
    _add("agents", sa.Column("token_id", sa.Text))
    _add("agents", sa.Column("clock_skew_ms", _INTEGER))
    op.create_index(op.f("ix_agents_machine_id"), "agents", ["machine_id"])
    op.create_index(op.f("ix_agents_token_id"), "agents", ["token_id"])
    _create_refusals()
    _create_tombstones()
    _create_endings()


def _create_refusals() -> None:
    _create_table(
        "refusals",
        sa.Column("id", _INTEGER, sa.Identity(), nullable=False),
        _text("key_id"),
        _text("reason"),
        sa.Column("token_id", sa.Text),
        _text("hostname"),
        _text("observed_address"),
        _integer("first_at"),
        _integer("last_at"),
        _integer("count"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refusals")),
        sa.UniqueConstraint("key_id", "reason", name=op.f("uq_refusals_key_id_reason")),
    )
    op.create_index(op.f("ix_refusals_last_at"), "refusals", ["last_at"])


def _create_tombstones() -> None:
    _create_table(
        "tombstones",
        _text("agent_id"),
        _text("key_id"),
        _text("hostname"),
        _text("status"),
        _integer("deleted_at"),
        _text("actor"),
        _text("reason"),
        _text("history"),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_tombstones")),
    )
    op.create_index(op.f("ix_tombstones_key_id"), "tombstones", ["key_id"])


def _create_endings() -> None:
    _create_table(
        "counters",
        _text("name"),
        _integer("value"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    _create_table(
        "endings",
        _integer("number"),
        _text("agent_id"),
        _text("reason"),
        _integer("at"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_endings")),
    )


def _add(table: str, column: sa.Column[Any]) -> None:
    op.add_column(table, column)


def _create_table(name: str, *items: sa.schema.SchemaItem) -> None:
    op.create_table(name, *items, sqlite_strict=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, _INTEGER, nullable=False)
