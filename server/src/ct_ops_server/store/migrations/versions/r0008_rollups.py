"""Revision 0008, rolled-up samples: buckets, what is due, late samples, horizons, retired series; partitions.

On PostgreSQL the table of samples becomes the first partition of its successor, as it is: nothing is copied.
It is dropped when all that it holds is past keeping. What is in it is due to be rolled up.

Columns are spelled out here and not taken from the tables of today: those move on, this one never.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


def upgrade() -> None:
    """Create the tables, and mark what is there as due."""
    op.add_column("series", sa.Column("retired_at", _INTEGER))
    is_retired = sa.text("retired_at IS NOT NULL")
    op.create_index(
        "ix_series_retired", "series", ["retired_at"], postgresql_where=is_retired, sqlite_where=is_retired
    )
    _create_bookkeeping()
    _mark_everything()
    if op.get_bind().dialect.name == "postgresql":
        _partition_samples()
    for resolution in ("1m", "1h", "1d"):
        _create_buckets(f"samples_{resolution}")


def _create_buckets(name: str) -> None:
    op.create_table(
        name,
        _integer("series_id"),
        _integer("ts_ms"),
        _integer("samples"),
        *(sa.Column(each, _REAL, nullable=False) for each in ("lowest", "highest", "mean")),
        sa.PrimaryKeyConstraint("series_id", "ts_ms", name=op.f(f"pk_{name}")),
        postgresql_partition_by="RANGE (ts_ms)",
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    _create_default_partition(name)


def _create_bookkeeping() -> None:
    op.create_table(
        "rollups_due",
        sa.Column("agent_id", sa.Text, nullable=False),
        *(_integer(each) for each in ("hour_ms", "marked_at", "done_series")),
        sa.PrimaryKeyConstraint("agent_id", "hour_ms", name=op.f("pk_rollups_due")),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f("fk_rollups_due_agent_id_agents"), ondelete="CASCADE"
        ),
        postgresql_with={"fillfactor": 60},
        sqlite_strict=True,
    )
    op.create_table(
        "late_samples",
        *_sample_columns("late_samples"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_table(
        "horizons",
        sa.Column("resolution", sa.Text, nullable=False),
        _integer("from_ms"),
        _integer("cleared_ms"),
        sa.PrimaryKeyConstraint("resolution", name=op.f("pk_horizons")),
        sqlite_strict=True,
    )


def _mark_everything() -> None:
    hour = f"samples.ts_ms - samples.ts_ms % {_HOUR_MS}"
    op.execute(
        "INSERT INTO rollups_due (agent_id, hour_ms, marked_at, done_series) "  # noqa: S608  our own names
        f"SELECT DISTINCT series.agent_id, {hour}, 0, 0 FROM samples "
        "JOIN series ON series.id = samples.series_id WHERE series.agent_id IS NOT NULL"
    )


def _partition_samples() -> None:
    connection = op.get_bind()
    newest = connection.scalar(sa.text("SELECT max(ts_ms) FROM samples"))
    op.rename_table("samples", "samples_old")
    op.execute("ALTER TABLE samples_old RENAME CONSTRAINT pk_samples TO pk_samples_old")
    op.create_table("samples", *_sample_columns("samples"), postgresql_partition_by="RANGE (ts_ms)")
    if newest is None:
        op.drop_table("samples_old")
    else:
        # Agents' clocks may be a day ahead of ours; partitions are made for whole days.
        end = (max(newest, int(time.time() * 1000) + _DAY_MS) // _DAY_MS + 1) * _DAY_MS
        before = f"samples_before_{end}"
        op.rename_table("samples_old", before)
        op.execute(f"ALTER TABLE samples ATTACH PARTITION {before} FOR VALUES FROM (MINVALUE) TO ({end})")
    _create_default_partition("samples")


def _create_default_partition(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")


def _sample_columns(table: str) -> tuple[sa.schema.SchemaItem, ...]:
    return (
        _integer("series_id"),
        _integer("ts_ms"),
        sa.Column("value", _REAL, nullable=False),
        sa.PrimaryKeyConstraint("series_id", "ts_ms", name=op.f(f"pk_{table}")),
    )


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, _INTEGER, nullable=False)
