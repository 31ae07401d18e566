"""The tables of checks: definitions with their state, results, numbers of changes, removed ones.

The rules of ``schema`` hold here too.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ct_ops_server.store.schema import Document, Flag, Integer64, metadata


def _agent(**options: Any) -> sa.Column[str]:
    target = sa.ForeignKey("agents.id", ondelete="CASCADE")
    return sa.Column("agent_id", sa.Text, target, nullable=False, **options)


checks = sa.Table(
    "checks",
    metadata,
    # What an operator said.
    sa.Column("id", sa.Text, primary_key=True),
    _agent(index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("config", Document, nullable=False),
    sa.Column("interval_s", Integer64, nullable=False),
    sa.Column("timeout_ms", Integer64, nullable=False),
    sa.Column("enabled", Flag, nullable=False),
    sa.Column("created_at", Integer64, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("changed_at", Integer64, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    # What its newest result says, and how many are kept. No index covers these: updates in place (HOT).
    sa.Column("status", sa.Text),
    sa.Column("since", Integer64),
    sa.Column("ran_at", Integer64),
    sa.Column("acknowledged_at", Integer64),
    sa.Column("kept", Integer64, nullable=False),
    postgresql_with={"fillfactor": 60},
    sqlite_strict=True,
)

check_results = sa.Table(
    "check_results",
    metadata,
    # The content key: a result that comes again is no second one.
    sa.Column("check_id", sa.Text, sa.ForeignKey("checks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("ran_at", Integer64, primary_key=True, autoincrement=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("output", sa.Text, nullable=False),
    sa.Column("duration_ms", Integer64, nullable=False),
    sa.Column("received_at", Integer64, nullable=False),
    sqlite_strict=True,
)

check_changes = sa.Table(
    "check_changes",
    metadata,
    # The number of the latest change of an agent's definitions, from one counter (see `counters`).
    _agent(primary_key=True),
    sa.Column("number", Integer64, nullable=False, index=True),
    sqlite_strict=True,
)

removed_checks = sa.Table(
    "removed_checks",
    metadata,
    # For results that come late: they are of a check that was, not of one that was made up.
    sa.Column("id", sa.Text, primary_key=True),
    _agent(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("removed_at", Integer64, nullable=False),
    sa.Column("removed_by", sa.Text, nullable=False),
    sqlite_strict=True,
)
