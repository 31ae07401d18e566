"""The collectors of each host: what its agent says of them, and how new what they delivered is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.items import CollectorState
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.sample_tables import collectors
from ct_ops_server.store.schema import Integer64, now_ms
from ct_ops_server.store.upsert import insert_from

Reports = Mapping[str, Sequence[CollectorState]]
"""By agent, every collector that runs on its host."""

_newest = row_set("newest", agent_id=sa.Text(), name=sa.Text(), newest_ms=Integer64)
_state = row_set("state", agent_id=sa.Text(), name=sa.Text(), interval_ms=Integer64, problem=sa.Text())
_IS_GONE = sa.and_(
    collectors.c.agent_id.in_(sa.bindparam("agents", expanding=True)),
    sa.not_(
        sa.exists().where(_state.c.agent_id == collectors.c.agent_id, _state.c.name == collectors.c.name)
    ),
)
# Of a collector that never delivered nothing is kept: names are the agent's to choose.
_FORGET = collectors.delete().where(_IS_GONE, collectors.c.newest_ms.is_(None))
_STOP = (
    collectors.update()
    .where(_IS_GONE, collectors.c.interval_ms.is_not(None))
    .values(interval_ms=None, running_since=None, problem="")
)


async def note_delivered(connection: AsyncConnection, newest: Mapping[tuple[str, str], int]) -> None:
    """Remember the newest sample of each agent's collector; an older one than is known changes no time."""
    if not newest:
        return
    source = sa.select(_newest.c.agent_id, _newest.c.name, sa.literal(""), _newest.c.newest_ms, now_ms())
    names = ("agent_id", "name", "problem", "newest_ms", "stored_at")
    insert = insert_from(connection, collectors, names, source)
    known, arrived = collectors.c.newest_ms, insert.excluded.newest_ms
    latest = sa.case((known > arrived, known), else_=arrived)
    statement = insert.on_conflict_do_update(
        index_elements=["agent_id", "name"],
        set_={"newest_ms": latest, "stored_at": insert.excluded.stored_at},
    )
    rows = [
        {"agent_id": agent_id, "name": name, "newest_ms": newest[agent_id, name]}
        for agent_id, name in sorted(newest)
    ]
    await connection.execute(statement, bind_rows("newest", rows))


async def store_reports(connection: AsyncConnection, reports: Reports) -> None:
    """Store which collectors run on these agents' hosts, in place of what was known."""
    if not reports:
        return
    states = bind_rows("state", [row for agent_id in sorted(reports) for row in _rows(agent_id, reports)])
    await connection.execute(_upsert_states(connection), states)
    gone = {**states, "agents": sorted(reports)}
    await connection.execute(_FORGET, gone)
    await connection.execute(_STOP, gone)


def _upsert_states(connection: AsyncConnection) -> Any:
    source = sa.select(*_state.c, now_ms())
    names = ("agent_id", "name", "interval_ms", "problem", "running_since")
    insert = insert_from(connection, collectors, names, source)
    started = sa.case(
        (collectors.c.interval_ms.is_(None), insert.excluded.running_since),
        else_=collectors.c.running_since,
    )
    return insert.on_conflict_do_update(
        index_elements=["agent_id", "name"],
        set_={
            "interval_ms": insert.excluded.interval_ms,
            "problem": insert.excluded.problem,
            "running_since": started,
        },
    )


def _rows(agent_id: str, reports: Reports) -> list[dict[str, object]]:
    states = {state.name: state for state in reports[agent_id]}
    return [
        {
            "agent_id": agent_id,
            "name": name,
            "interval_ms": states[name].interval_ms,
            "problem": states[name].problem,
        }
        for name in sorted(states)
    ]
