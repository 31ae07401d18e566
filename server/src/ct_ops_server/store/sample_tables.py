"""The tables of what collectors deliver: series, their samples, and the collectors of each host.

The rules of ``schema`` hold here, with one exception: an agent that is deleted leaves its series to nobody,
and ``retention`` removes them with their samples, piece by piece. A cascade over ten million rows would keep
everybody else's heartbeats waiting. For the same reason, and because it costs a third more per row, samples
have no foreign key: whoever writes them, and whoever removes a series, takes ``store.series.guard``.
"""

from __future__ import annotations

import sqlalchemy as sa

from ct_ops_server.store.schema import Integer64, Real, metadata


def _retired() -> sa.Index:
    """Find those that are retired, which few are."""
    is_retired = sa.text("retired_at IS NOT NULL")
    return sa.Index("ix_series_retired", "retired_at", postgresql_where=is_retired, sqlite_where=is_retired)


series = sa.Table(
    "series",
    metadata,
    sa.Column("id", Integer64, sa.Identity(), primary_key=True),
    sa.Column("agent_id", sa.Text, sa.ForeignKey("agents.id", ondelete="SET NULL")),
    # Canonical: name and labels. See ct_ops_proto.series.
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    # Since when nothing of it is among the raw samples. A retired one does not count towards its agent's limit.
    sa.Column("retired_at", Integer64),
    sa.UniqueConstraint("agent_id", "text"),
    _retired(),
    sqlite_strict=True,
)

samples = sa.Table(
    "samples",
    metadata,
    # The content key: a sample that comes again is no second one. No "latest" anywhere: the newest sample of
    # a series is the last in this index, so a late one cannot overwrite it.
    sa.Column("series_id", Integer64, primary_key=True, autoincrement=False),
    sa.Column("ts_ms", Integer64, primary_key=True, autoincrement=False),
    sa.Column("value", Real, nullable=False),
    postgresql_partition_by="RANGE (ts_ms)",
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

collectors = sa.Table(
    "collectors",
    metadata,
    sa.Column("agent_id", sa.Text, sa.ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    # What its agent says of it. No interval: it is not among those that run now.
    sa.Column("interval_ms", Integer64),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("running_since", Integer64),
    # What arrived: the newest sample's time by the agent's clock, and when the latest were stored by ours.
    sa.Column("newest_ms", Integer64),
    sa.Column("stored_at", Integer64),
    postgresql_with={"fillfactor": 60},
    sqlite_strict=True,
)
