"""Retention of samples: what is past keeping goes, by partitions or piece by piece. Inside of ``Upkeep.alone``.

A pass

1. makes PostgreSQL's partitions ahead;
2. rolls up what is due before the new horizon, and moves the horizons;
3. drops partitions before them, and removes the rest piece by piece. On SQLite the rest is everything: where a horizon
   has moved, series after series is looked at, and finds its old rows at the front of its part of the index;
4. retires and removes series (``store.series_upkeep``).

Each step is a transaction of its own, small enough that heartbeats do not notice it (``store.upkeep``). A pass
that was cut off goes on where it was the next time: what is done is only noted at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.resolutions import KEEPING, SHELF_MS, Keeping, Resolution
from ct_ops_server.store import horizons, partitions, series_upkeep
from ct_ops_server.store.horizons import Horizon
from ct_ops_server.store.partition_names import default_of
from ct_ops_server.store.rolling import Rolling
from ct_ops_server.store.rollup_tables import TABLE_OF
from ct_ops_server.store.schema import Integer64
from ct_ops_server.store.series_upkeep import Walked
from ct_ops_server.store.upkeep import Upkeep

SERIES_KEEP = timedelta(days=90)
"""Default of how long a series that nobody delivers any more is kept."""

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Pieces:
    """How much at once."""

    series: int = 200
    """Looked at in one transaction."""
    rows: int = 5_000
    """Removed in one transaction, of one table."""


class Retention:
    """Removes samples and buckets that are past keeping."""

    def __init__(
        self,
        upkeep: Upkeep,
        rolling: Rolling,
        *,
        keeping: Keeping = KEEPING,
        series_keep: timedelta = SERIES_KEEP,
        pieces: Pieces = Pieces(),
        removed: Callable[[str, int], None] = lambda _table, _rows: None,
    ) -> None:
        """Prepare it.

        Args:
            upkeep: where it writes.
            rolling: who rolls up what is due before it is removed.
            keeping: how long each resolution is kept.
            series_keep: how long a retired series is kept.
            pieces: how much one step takes on.
            removed: told how many rows of which table are gone.
        """
        self._upkeep = upkeep
        self._rolling = rolling
        self._keeping = keeping
        self._series_keep_ms = series_keep // _MILLISECOND
        self._pieces = pieces
        self._removed = removed

    async def make_pass(self) -> None:
        """Remove everything that is past keeping.

        Raises:
            StoreError: the store did not answer, or something was in the way.
        """
        if await self._upkeep.run(_is_partitioned):
            await self._make_partitions()
        await self._move_horizons()
        known = await self._upkeep.run(horizons.read_horizons)
        behind = {each: it for each, it in known.items() if it.cleared_ms < it.from_ms}
        if await self._upkeep.run(_is_partitioned):
            await self._drop_partitions(known)
        if behind:
            await self._walk(behind, known[Resolution.RAW].from_ms)
            cleared = {each: it.from_ms for each, it in behind.items()}
            await self._upkeep.run(partial(horizons.note_cleared, cleared=cleared))
        await self._remove_left(known[Resolution.RAW].from_ms)

    async def _make_partitions(self) -> None:
        known, now = await self._upkeep.run(horizons.read_horizons), await self._upkeep.run(horizons.read_now)
        for resolution, table in TABLE_OF.items():
            there = await self._upkeep.run(partial(partitions.read_partitions, table=table.name))
            from_ms = max(known[resolution].from_ms, self._keeping.horizon_ms(resolution, now))
            width_ms = SHELF_MS[resolution]
            for start, end in partitions.missing(there, width_ms=width_ms, from_ms=from_ms, now_ms=now):
                make = partial(partitions.make_partition, table=table.name, start_ms=start, end_ms=end)
                await self._upkeep.step(make)

    async def _move_horizons(self) -> None:
        known, now = await self._upkeep.run(horizons.read_horizons), await self._upkeep.run(horizons.read_now)
        to_ms = self._keeping.horizon_ms(Resolution.RAW, now)
        if to_ms > known[Resolution.RAW].from_ms:
            await self._rolling.make_round(before_ms=to_ms)
            await self._upkeep.run(partial(horizons.move_raw_horizon, to_ms=to_ms))
        await self._upkeep.run(partial(horizons.move_rolled_horizons, keeping=self._keeping))

    async def _drop_partitions(self, known: Mapping[Resolution, Horizon]) -> None:
        for resolution, table in TABLE_OF.items():
            for each in await self._upkeep.run(partial(partitions.read_partitions, table=table.name)):
                if each.end_ms <= known[resolution].from_ms:
                    dropped, _ = await self._upkeep.step(partial(partitions.drop_partition, partition=each))
                    self._removed(table.name, dropped)
            await self._clear_default(table, known[resolution].from_ms)

    async def _clear_default(self, table: sa.Table, before_ms: int) -> None:
        removed = self._pieces.rows
        while removed >= self._pieces.rows:
            clear = partial(_clear_default, table=table.name, before_ms=before_ms, rows=self._pieces.rows)
            removed, _ = await self._upkeep.step(clear)
            self._removed(table.name, removed)

    async def _walk(self, behind: Mapping[Resolution, Horizon], raw_from_ms: int) -> None:
        """Go through all series: on SQLite for their old rows, everywhere for those that have none left."""
        after: int | None = 0
        while after is not None:
            step = partial(self._walk_on, after=after, behind=behind, raw_from_ms=raw_from_ms)
            walked, _ = await self._upkeep.step(step)
            for table, rows in walked.removed.items():
                self._removed(table, rows)
            after = walked.last

    async def _walk_on(
        self,
        connection: AsyncConnection,
        *,
        after: int,
        behind: Mapping[Resolution, Horizon],
        raw_from_ms: int,
    ) -> Walked:
        ids = await series_upkeep.next_series(connection, after=after, limit=self._pieces.series)
        if not ids:
            return Walked(None)
        removed: dict[str, int] = {}
        if not await _is_partitioned(connection):
            for resolution, horizon in behind.items():
                table = TABLE_OF[resolution]
                removed[table.name] = await series_upkeep.old_rows_of(
                    connection, table, ids, before_ms=horizon.from_ms, limit=self._pieces.rows
                )
        if any(rows >= self._pieces.rows for rows in removed.values()):
            return Walked(after, removed)  # there may be more of these
        await series_upkeep.retire(connection, ids, horizon_ms=raw_from_ms)
        return Walked(ids[-1], removed)

    async def _remove_left(self, horizon_ms: int) -> None:
        remove = partial(
            series_upkeep.remove_left,
            keep_ms=self._series_keep_ms,
            horizon_ms=horizon_ms,
            series_at_once=self._pieces.series,
            rows=self._pieces.rows,
        )
        while (removed := (await self._upkeep.step(remove))[0]) is not None:
            for table, rows in removed.items():
                self._removed(table, rows)


async def _is_partitioned(connection: AsyncConnection) -> bool:
    return connection.dialect.name == "postgresql"


async def _clear_default(connection: AsyncConnection, *, table: str, before_ms: int, rows: int) -> int:
    default = sa.table(default_of(table), sa.column("series_id", Integer64), sa.column("ts_ms", Integer64))
    old = sa.select(default.c.series_id, default.c.ts_ms).where(default.c.ts_ms < before_ms).limit(rows)
    key = sa.tuple_(default.c.series_id, default.c.ts_ms)
    return (await connection.execute(sa.delete(default).where(key.in_(old)))).rowcount
