"""Samples: written for a whole group with a handful of statements, however many there are.

Those older than the raw ones that are kept go to a table of their own, from where they reach their buckets; of the
others the hours are marked in which they lie (``store.rollups_due``).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.items import Owned, Sample
from ct_ops_server.fleet.resolutions import HOUR_MS, start_of
from ct_ops_server.store.collectors import note_delivered
from ct_ops_server.store.rollup_tables import late_samples
from ct_ops_server.store.rollups_due import Due, mark_due, raw_horizon
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.sample_tables import samples
from ct_ops_server.store.schema import Integer64, Real
from ct_ops_server.store.series import Key, guard, identify_series
from ct_ops_server.store.upsert import insert_from

SERIES_OF_AN_AGENT = 5_000
"""Default of how many series an agent may have (rule 16)."""

_sample = row_set("sample", series_id=Integer64, ts_ms=Integer64, value=Real)


class _Row(Struct, frozen=True, order=True):
    series_id: int
    ts_ms: int
    value: float


class SampleWriter:
    """``store.items.ItemWriter`` for samples."""

    def __init__(self, series_of_an_agent: int = SERIES_OF_AN_AGENT) -> None:
        self._limit = series_of_an_agent

    async def apply(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        """Store those that are new; those of a series too many are refused as ``series_limit``."""
        delivered = [(each.agent_id, each.item) for each in owned if isinstance(each.item, Sample)]
        units: dict[Key, str] = {(agent_id, sample.series): sample.unit for agent_id, sample in delivered}
        await guard(connection)
        ids = await identify_series(connection, units, limit=self._limit)
        horizon = await raw_horizon(connection)
        rows: list[_Row] = []
        late: list[_Row] = []
        newest: dict[Key, int] = {}
        due: set[Due] = set()
        outcomes: list[str | None] = []
        for agent_id, sample in delivered:
            series_id = ids.get((agent_id, sample.series))
            outcomes.append("series_limit" if series_id is None else None)
            if series_id is not None:
                row = _Row(series_id, sample.at_ms, sample.value)
                if sample.at_ms < horizon:
                    late.append(row)
                else:
                    rows.append(row)
                    due.add((agent_id, start_of(sample.at_ms, HOUR_MS)))
                collector = (agent_id, sample.series.partition(".")[0])
                newest[collector] = max(newest.get(collector, 0), sample.at_ms)
        await _insert(connection, samples, rows)
        await _insert(connection, late_samples, late)
        await mark_due(connection, due)
        await note_delivered(connection, newest)
        return outcomes


async def _insert(connection: AsyncConnection, table: sa.Table, rows: list[_Row]) -> None:
    if rows:
        rows.sort()  # neighbours in the table; and two workers meet their rows in one order
        names = ("series_id", "ts_ms", "value")
        insert = insert_from(connection, table, names, sa.select(*_sample.c)).on_conflict_do_nothing()
        await connection.execute(insert, bind_rows("sample", rows))
