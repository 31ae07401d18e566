"""Revision 0004, checks: definitions with their state, results, numbers of changes, removed ones.

Columns are spelled out here and not taken from the tables of today: those move on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FLAG = sa.Boolean().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    _create_checks()
    op.create_index(op.f("ix_checks_agent_id"), "checks", ["agent_id"])
    _create_check_results()
    _create_check_changes()
    op.create_index(op.f("ix_check_changes_number"), "check_changes", ["number"])
    _create_removed_checks()


def _create_checks() -> None:
    op.create_table(
        "checks",
        _text("id"),
        _text("agent_id"),
        _text("name"),
        _text("type"),
        _text("config"),
        _integer("interval_s"),
        _integer("timeout_ms"),
        sa.Column("enabled", _FLAG, nullable=False),
        _integer("created_at"),
        _text("created_by"),
        _integer("changed_at"),
        _text("changed_by"),
        sa.Column("status", sa.Text),
        sa.Column("since", _INTEGER),
        sa.Column("ran_at", _INTEGER),
        sa.Column("acknowledged_at", _INTEGER),
        _integer("kept"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checks")),
        _of_agent("checks"),
        postgresql_with={"fillfactor": 60},
        sqlite_strict=True,
    )


def _create_check_results() -> None:
    op.create_table(
        "check_results",
        _text("check_id"),
        _integer("ran_at"),
        _text("status"),
        _text("output"),
        _integer("duration_ms"),
        _integer("received_at"),
        sa.PrimaryKeyConstraint("check_id", "ran_at", name=op.f("pk_check_results")),
        sa.ForeignKeyConstraint(
            ["check_id"], ["checks.id"], name=op.f("fk_check_results_check_id_checks"), ondelete="CASCADE"
        ),
        sqlite_strict=True,
    )


def _create_check_changes() -> None:
    op.create_table(
        "check_changes",
        _text("agent_id"),
        _integer("number"),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_check_changes")),
        _of_agent("check_changes"),
        sqlite_strict=True,
    )


def _create_removed_checks() -> None:
    op.create_table(
        "removed_checks",
        _text("id"),
        _text("agent_id"),
        _text("name"),
        _integer("removed_at"),
        _text("removed_by"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_removed_checks")),
        _of_agent("removed_checks"),
        sqlite_strict=True,
    )


def _of_agent(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_agent_id_agents")
    return sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name=name, ondelete="CASCADE")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, _INTEGER, nullable=False)
