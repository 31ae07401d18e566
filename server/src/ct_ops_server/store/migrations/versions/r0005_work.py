"""Revision 0005, work: queries and their answers, tasks and what they said, what is installed on hosts.

Columns are spelled out here and not taken from ``schema``: that module moves on, this one never.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_FLAG = sa.Boolean().with_variant(sa.Integer(), "sqlite")
_IS_OPEN = sa.text("state IN ('waiting', 'sent', 'running', 'cancelling')")


def upgrade() -> None:
    """Make the new tables."""
    _create_queries()
    _create_tasks()
    _create_task_progress()
    _create_software_packages()


def _create_queries() -> None:
    _create_table(
        "queries",
        _text("id"),
        _text("agent_id"),
        _text("query_type"),
        _integer("created_at"),
        _text("created_by"),
        _integer("expires_at"),
        sa.Column("answered_at", _INTEGER),
        sa.Column("error", sa.Text),
        sa.Column("answer", sa.Text),
        _of_agent("queries"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queries")),
    )
    op.create_index(op.f("ix_queries_agent_id_created_at"), "queries", ["agent_id", "created_at"])


def _create_tasks() -> None:
    _create_table(
        "tasks",
        *(_text(name) for name in ("id", "agent_id", "task_type", "config_json", "state")),
        _integer("attempt"),
        _integer("created_at"),
        _text("created_by"),
        _integer("expires_at"),
        _integer("due_at"),
        sa.Column("sent_at", _INTEGER),
        _integer("sent_generation"),
        sa.Column("accepted_at", _INTEGER),
        sa.Column("lease_until", _INTEGER),
        _integer("output_chars"),
        _integer("output_chunks"),
        sa.Column("output_is_cut", _FLAG, nullable=False),
        sa.Column("ended_at", _INTEGER),
        sa.Column("cancelled_by", sa.Text),
        _integer("result_attempt"),
        sa.Column("exit_code", _INTEGER),
        *(sa.Column(name, sa.Text) for name in ("result_json", "error", "refused")),
        _of_agent("tasks"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_index(op.f("ix_tasks_agent_id_created_at"), "tasks", ["agent_id", "created_at"])
    op.create_index(
        op.f("ix_tasks_open"), "tasks", ["agent_id"], postgresql_where=_IS_OPEN, sqlite_where=_IS_OPEN
    )


def _create_task_progress() -> None:
    _create_table(
        "task_progress",
        _text("task_id"),
        _integer("attempt"),
        _integer("position"),
        _text("chunk"),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], ondelete="CASCADE", name=op.f("fk_task_progress_task_id_tasks")
        ),
        sa.PrimaryKeyConstraint("task_id", "attempt", "position", name=op.f("pk_task_progress")),
    )


def _create_software_packages() -> None:
    key = ("agent_id", "source", "name", "version", "architecture")
    _create_table(
        "software_packages",
        *(_text(name) for name in (*key, "publisher")),
        *(_integer(name) for name in ("installed_at_s", "first_seen_at", "last_seen_at")),
        _text("last_scan"),
        sa.Column("removed_at", _INTEGER),
        sa.Column("returned_at", _INTEGER),
        _of_agent("software_packages"),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_software_packages")),
    )


def _of_agent(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_agent_id_agents")
    return sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], ondelete="CASCADE", name=name)


def _create_table(name: str, *items: sa.schema.SchemaItem) -> None:
    op.create_table(name, *items, sqlite_strict=True)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=False)


def _integer(name: str) -> sa.Column[Any]:
    return sa.Column(name, _INTEGER, nullable=False)
