"""Partitions by time, on PostgreSQL: made ahead, and dropped as a whole.

Each partitioned table also has a default partition, for what lies in no other one: a host whose clock is ahead, an
upkeep that did not run for a week. So no time that an agent sends can fail a grouped write (rule 15). A partition
that is made later takes over what the default one holds of its time.

Every statement here may have to wait for a long read of the table, and whoever writes would wait behind it. So none
waits long (``store.upkeep``): what was not done is done in the next pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.resolutions import DAY_MS
from ct_ops_server.store.partition_names import default_of, end_of, is_before_everything, partition_to

_AHEAD_MS = 2 * DAY_MS
"""Samples may be a day ahead of our clock, and making them may fail for a day."""

_NAMES = sa.text(
    "SELECT child.relname AS name, greatest(child.reltuples, 0)::bigint AS estimate FROM pg_inherits "
    "JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = to_regclass(:parent)"
)


@dataclass(frozen=True, slots=True)
class Partition:
    """One that ends somewhere."""

    name: str
    end_ms: int
    has_beginning: bool
    rows: int
    """About so many: the database's own estimate."""


async def read_partitions(connection: AsyncConnection, *, table: str) -> list[Partition]:
    """Return a table's partitions by their time, without the default one."""
    found = [
        Partition(row.name, end, not is_before_everything(row.name), row.estimate)
        for row in await connection.execute(_NAMES, {"parent": table})
        if (end := end_of(row.name)) is not None
    ]
    return sorted(found, key=lambda each: each.end_ms)


def missing(there: list[Partition], *, width_ms: int, from_ms: int, now_ms: int) -> Iterator[tuple[int, int]]:
    """Yield beginning and end of those that are to be made, from a horizon on to some time ahead."""
    ends = {each.end_ms for each in there}
    covered = max((each.end_ms for each in there if not each.has_beginning), default=0)
    start = max(from_ms, covered - covered % width_ms)
    while start <= now_ms + _AHEAD_MS:
        end = start + width_ms
        if end not in ends and end > covered:
            yield max(start, covered), end
        start = end


async def make_partition(connection: AsyncConnection, *, table: str, start_ms: int, end_ms: int) -> None:
    """Make one, with what the default partition holds of its time."""
    name, default = partition_to(table, end_ms), default_of(table)
    times = f"ts_ms >= {start_ms} AND ts_ms < {end_ms}"
    for statement in (
        f"LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE",
        f"CREATE TABLE {name} (LIKE {table})",
        f"WITH moved AS (DELETE FROM {default} WHERE {times} RETURNING *) INSERT INTO {name} SELECT * FROM moved",  # noqa: S608  our own names, and integers
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({start_ms}) TO ({end_ms})",
    ):
        await connection.execute(sa.text(statement))


async def drop_partition(connection: AsyncConnection, *, partition: Partition) -> int:
    """Drop one with everything in it; return about how many rows that were."""
    await connection.execute(sa.text(f"DROP TABLE {partition.name}"))
    return partition.rows
