"""The tables of rolled-up samples: buckets by resolution, what is to be rolled up, late samples, horizons.

The rules of ``sample_tables`` hold here too. On PostgreSQL samples and buckets are partitioned by time
(``store.partitions``); keys begin with the series, so one agent's curve is one walk along an index.
"""

from __future__ import annotations

import sqlalchemy as sa

from ct_ops_server.fleet.resolutions import Resolution
from ct_ops_server.store.sample_tables import samples
from ct_ops_server.store.schema import Integer64, Real, metadata


def _buckets(resolution: Resolution) -> sa.Table:
    return sa.Table(
        f"samples_{resolution}",
        metadata,
        sa.Column("series_id", Integer64, primary_key=True, autoincrement=False),
        # When the bucket begins.
        sa.Column("ts_ms", Integer64, primary_key=True, autoincrement=False),
        sa.Column("samples", Integer64, nullable=False),
        sa.Column("lowest", Real, nullable=False),
        sa.Column("highest", Real, nullable=False),
        # Not their sum: that of finite values may be none.
        sa.Column("mean", Real, nullable=False),
        postgresql_partition_by="RANGE (ts_ms)",
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )


minutes, hours, days = (_buckets(each) for each in (Resolution.MINUTE, Resolution.HOUR, Resolution.DAY))

TABLE_OF = {
    Resolution.RAW: samples,
    Resolution.MINUTE: minutes,
    Resolution.HOUR: hours,
    Resolution.DAY: days,
}

rollups_due = sa.Table(
    "rollups_due",
    metadata,
    # An hour of an agent in which samples arrived that its buckets do not have yet.
    sa.Column("agent_id", sa.Text, sa.ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("hour_ms", Integer64, primary_key=True, autoincrement=False),
    # By the database's clock: when the first of them arrived.
    sa.Column("marked_at", Integer64, nullable=False),
    # Series up to this one have been rolled up since the last of them arrived.
    sa.Column("done_series", Integer64, nullable=False),
    postgresql_with={"fillfactor": 60},
    sqlite_strict=True,
)

late_samples = sa.Table(
    "late_samples",
    metadata,
    # Samples older than the raw ones that are kept: added to their buckets, then removed.
    sa.Column("series_id", Integer64, primary_key=True, autoincrement=False),
    sa.Column("ts_ms", Integer64, primary_key=True, autoincrement=False),
    sa.Column("value", Real, nullable=False),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

horizons = sa.Table(
    "horizons",
    metadata,
    sa.Column("resolution", sa.Text, primary_key=True),
    # Everything from here on is kept; what is older is gone or about to go. It never moves back.
    sa.Column("from_ms", Integer64, nullable=False),
    # Everything older than this is gone.
    sa.Column("cleared_ms", Integer64, nullable=False),
    sqlite_strict=True,
)
