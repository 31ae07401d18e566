"""The tables of what is asked of agents: queries, tasks, and the software that tasks find.

The rules of ``schema`` hold here too.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ct_ops_server.store.schema import Document, Flag, Integer64, metadata


def _agent(**options: Any) -> sa.Column[str]:
    target = sa.ForeignKey("agents.id", ondelete="CASCADE")
    return sa.Column("agent_id", sa.Text, target, nullable=False, **options)


def _open_tasks() -> sa.Index:
    """Find what is open by agent; what is over, nearly everything, is not in it."""
    is_open = sa.text("state IN ('waiting', 'sent', 'running', 'cancelling')")
    return sa.Index("ix_tasks_open", "agent_id", postgresql_where=is_open, sqlite_where=is_open)


def _open_queries() -> sa.Index:
    """Find what waits for an answer; a day of answered ones is not in it."""
    is_open = sa.text("answered_at IS NULL")
    return sa.Index("ix_queries_open", "expires_at", postgresql_where=is_open, sqlite_where=is_open)


queries = sa.Table(
    "queries",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    _agent(),
    sa.Column("query_type", sa.Text, nullable=False),
    sa.Column("created_at", Integer64, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", Integer64, nullable=False),
    sa.Column("answered_at", Integer64),
    sa.Column("error", sa.Text),
    sa.Column("answer", Document),
    sa.Index(None, "agent_id", "created_at"),
    _open_queries(),
    sqlite_strict=True,
)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    _agent(),
    sa.Column("task_type", sa.Text, nullable=False),
    sa.Column("config_json", Document, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", Integer64, nullable=False),
    sa.Column("created_at", Integer64, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", Integer64, nullable=False),
    sa.Column("due_at", Integer64, nullable=False),
    # Of the latest attempt: when it was pushed, to which stream, and how long its lease lives.
    sa.Column("sent_at", Integer64),
    sa.Column("sent_generation", Integer64, nullable=False),
    sa.Column("accepted_at", Integer64),
    sa.Column("lease_until", Integer64),
    sa.Column("output_chars", Integer64, nullable=False),
    sa.Column("output_chunks", Integer64, nullable=False),
    sa.Column("output_is_cut", Flag, nullable=False),
    # How it ended.
    sa.Column("ended_at", Integer64),
    sa.Column("cancelled_by", sa.Text),
    sa.Column("result_attempt", Integer64, nullable=False),
    sa.Column("exit_code", Integer64),
    sa.Column("result_json", Document),
    sa.Column("error", sa.Text),
    sa.Column("refused", sa.Text),
    sa.Index(None, "agent_id", "created_at"),
    _open_tasks(),
    sqlite_strict=True,
)

task_progress = sa.Table(
    "task_progress",
    metadata,
    sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("attempt", Integer64, primary_key=True, autoincrement=False),
    # Of the chunk's first character in the attempt's output.
    sa.Column("position", Integer64, primary_key=True, autoincrement=False),
    sa.Column("chunk", sa.Text, nullable=False),
    sqlite_strict=True,
)

software_packages = sa.Table(
    "software_packages",
    metadata,
    _agent(primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    # Empty where a package manager has none: a NULL would make every scan's row another one.
    sa.Column("architecture", sa.Text, primary_key=True),
    sa.Column("publisher", sa.Text, nullable=False),
    sa.Column("installed_at_s", Integer64, nullable=False),
    sa.Column("first_seen_at", Integer64, nullable=False),
    sa.Column("last_seen_at", Integer64, nullable=False),
    sa.Column("last_scan", sa.Text, nullable=False),
    sa.Column("removed_at", Integer64),
    sa.Column("returned_at", Integer64),
    sqlite_strict=True,
)
