"""Series: found, or made within their agent's limit, with two statements for a whole group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.sample_tables import series
from ct_ops_server.store.upsert import insert_from

Key = tuple[str, str]
"""An agent's id, and a series' text."""

_GUARD = 0x73657269_6573
"""A PostgreSQL advisory lock: any constant will do, as long as all workers take the same."""


@dataclass(frozen=True, slots=True)
class _Known:
    id: int
    unit: str
    is_retired: bool


_wanted = row_set("wanted", agent_id=sa.Text(), text=sa.Text())
_new = row_set("new", agent_id=sa.Text(), text=sa.Text(), name=sa.Text(), unit=sa.Text())
_FIND = sa.select(series.c.id, series.c.agent_id, series.c.text, series.c.unit, series.c.retired_at).where(
    series.c.agent_id == _wanted.c.agent_id, series.c.text == _wanted.c.text
)
_COUNT = (
    sa.select(series.c.agent_id, sa.func.count().label("series"))
    .where(series.c.agent_id.in_(sa.bindparam("agents", expanding=True)), series.c.retired_at.is_(None))
    .group_by(series.c.agent_id)
)
_TAKE_UP = (
    series.update()
    .where(series.c.agent_id == _new.c.agent_id, series.c.text == _new.c.text)
    .values(retired_at=None)
)
_CHANGE_UNIT = (
    series.update()
    .where(series.c.agent_id == _new.c.agent_id, series.c.text == _new.c.text)
    .values(unit=_new.c.unit)
)


async def guard(connection: AsyncConnection, *, alone: bool = False) -> None:
    """Keep series from being removed until the commit; ``alone``: keep everybody from adding to them.

    SQLite's writer is alone anyway.
    """
    if connection.dialect.name == "postgresql":
        lock = sa.func.pg_advisory_xact_lock if alone else sa.func.pg_advisory_xact_lock_shared
        await connection.execute(sa.select(lock(_GUARD)))


async def identify_series(
    connection: AsyncConnection, units: Mapping[Key, str], *, limit: int
) -> dict[Key, int]:
    """Return the id of each series, making those that are not there yet, and taking up those that were retired.

    Args:
        connection: in the transaction of a group.
        units: the unit of each wanted series.
        limit: how many an agent may have. Series beyond it are left out.
    """
    known = await _find(connection, units)
    missing = [key for key in units if key not in known or known[key].is_retired]
    if missing:
        made = await _within(connection, missing, limit)
        await _take_up(connection, {key: units[key] for key in made if key in known})
        await _make(connection, {key: units[key] for key in made if key not in known})
        known = {key: each for key, each in known.items() if not each.is_retired}
        known |= await _find(connection, made)
    changed = {key: units[key] for key, each in known.items() if each.unit != units[key]}
    if changed:
        await connection.execute(_CHANGE_UNIT, _bind_new(changed))
    return {key: each.id for key, each in known.items()}


async def _find(connection: AsyncConnection, keys: Iterable[Key]) -> dict[Key, _Known]:
    rows = [{"agent_id": agent_id, "text": text} for agent_id, text in keys]
    if not rows:
        return {}
    found = await connection.execute(_FIND, bind_rows("wanted", rows))
    return {(row.agent_id, row.text): _Known(row.id, row.unit, row.retired_at is not None) for row in found}


async def _within(connection: AsyncConnection, missing: Sequence[Key], limit: int) -> list[Key]:
    """Return those of the missing series that their agents have room for, in the order they came."""
    agents = sorted({agent_id for agent_id, _ in missing})
    counted = await connection.execute(_COUNT, {"agents": agents})
    room = dict.fromkeys(agents, limit) | {row.agent_id: limit - row.series for row in counted}
    fitting: list[Key] = []
    for key in missing:
        if room[key[0]] > 0:
            room[key[0]] -= 1
            fitting.append(key)
    return fitting


async def _take_up(connection: AsyncConnection, units: Mapping[Key, str]) -> None:
    if units:
        await connection.execute(_TAKE_UP, _bind_new(units))


async def _make(connection: AsyncConnection, units: Mapping[Key, str]) -> None:
    if units:
        names = ("agent_id", "text", "name", "unit")
        insert = insert_from(connection, series, names, sa.select(*_new.c)).on_conflict_do_nothing()
        await connection.execute(insert, _bind_new(units))


def _bind_new(units: Mapping[Key, str]) -> dict[str, str]:
    rows = [
        {"agent_id": agent_id, "text": text, "name": text.partition("{")[0], "unit": units[agent_id, text]}
        for agent_id, text in sorted(units)
    ]
    return bind_rows("new", rows)
