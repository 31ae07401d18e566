"""Revision 0006, samples: series, samples, and the collectors of each host.

Columns are spelled out here and not taken from the tables of today: those move on, this one never.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    _create_series()
    op.create_table(
        "samples",
        _integer("series_id"),
        _integer("ts_ms"),
        sa.Column("value", _REAL, nullable=False),
        sa.PrimaryKeyConstraint("series_id", "ts_ms", name=op.f("pk_samples")),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    _create_collectors()


def _create_series() -> None:
    op.create_table(
        "series",
        sa.Column("id", _INTEGER, sa.Identity(), nullable=False),
        sa.Column("agent_id", sa.Text),
        _text("text"),
        _text("name"),
        _text("unit"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("agent_id", "text", name=op.f("uq_series_agent_id_text")),
        _of_agent("series", "SET NULL"),
        sqlite_strict=True,
    )


def _create_collectors() -> None:
    op.create_table(
        "collectors",
        _text("agent_id"),
        _text("name"),
        sa.Column("interval_ms", _INTEGER),
        _text("problem"),
        sa.Column("running_since", _INTEGER),
        sa.Column("newest_ms", _INTEGER),
        sa.Column("stored_at", _INTEGER),
        sa.PrimaryKeyConstraint("agent_id", "name", name=op.f("pk_collectors")),
        _of_agent("collectors", "CASCADE"),
        postgresql_with={"fillfactor": 60},
        sqlite_strict=True,
    )


def _of_agent(table: str, ondelete: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_agent_id_agents")
    return sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name=name, ondelete=ondelete)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, _INTEGER, nullable=False)
