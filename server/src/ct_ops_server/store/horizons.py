"""Horizons: from when on each resolution is kept. They only move forward, and only once nothing is lost by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.resolutions import ROLLED, Keeping, Resolution
from ct_ops_server.store.rollup_tables import horizons, rollups_due
from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.series import guard
from ct_ops_server.store.upsert import upsert


@dataclass(frozen=True, slots=True)
class Horizon:
    """Of one resolution."""

    from_ms: int = 0
    """Everything from here on is kept."""
    cleared_ms: int = 0
    """Everything older than this is gone."""


async def read_now(connection: AsyncConnection) -> int:
    """Return what the database's clock says."""
    return int((await connection.execute(sa.select(now_ms()))).scalar_one())


async def read_horizons(connection: AsyncConnection) -> Mapping[Resolution, Horizon]:
    """Return the horizon of every resolution."""
    found = {
        Resolution(row.resolution): Horizon(row.from_ms, row.cleared_ms)
        for row in await connection.execute(sa.select(horizons))
    }
    return {each: found.get(each, Horizon()) for each in Resolution}


async def move_raw_horizon(connection: AsyncConnection, *, to_ms: int) -> bool:
    """Move it, unless something before it is still to be rolled up: then False.

    Nobody stores samples meanwhile: each is either seen here as due, or finds the new horizon and is late.
    """
    await guard(connection, alone=True)
    earliest = await connection.scalar(sa.select(sa.func.min(rollups_due.c.hour_ms)))
    if earliest is not None and earliest < to_ms:
        return False
    await _move(connection, Resolution.RAW, to_ms)
    return True


async def move_rolled_horizons(connection: AsyncConnection, *, keeping: Keeping) -> None:
    """Move those of the buckets; none of them beyond the raw one, before which buckets are made again."""
    known, now = await read_horizons(connection), await read_now(connection)
    for each in ROLLED:
        to_ms = min(keeping.horizon_ms(each, now), known[Resolution.RAW].from_ms)
        if to_ms > known[each].from_ms:
            await _move(connection, each, to_ms)


async def note_cleared(connection: AsyncConnection, *, cleared: Mapping[Resolution, int]) -> None:
    """Remember that everything older than these is gone."""
    for resolution, cleared_ms in cleared.items():
        of_it = horizons.c.resolution == resolution.value
        await connection.execute(horizons.update().where(of_it).values(cleared_ms=cleared_ms))


async def _move(connection: AsyncConnection, resolution: Resolution, to_ms: int) -> None:
    known = (await read_horizons(connection))[resolution]
    row = {"resolution": resolution.value, "from_ms": to_ms, "cleared_ms": known.cleared_ms}
    await connection.execute(upsert(connection, horizons, row, key="resolution"))
