"""Live streams as a source of rows: what is due is read for all of a process with one statement.

A stream that was fenced by a younger one, or whose agent is not active, has no row here (rule 18).

Of thousands of streams hardly one has anything due when a hint comes: so it is asked first which agents
have, and only their streams are read for. A question about ten thousand streams costs what one about a few does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, agents

_FEW = 50
"""So many streams are read for at once, without asking first."""

streams = row_set("streams", agent_id=sa.Text(), generation=Integer64)
is_current = sa.and_(
    agents.c.id == streams.c.agent_id,
    agents.c.generation == streams.c.generation,
    agents.c.status == AgentStatus.ACTIVE.value,
)


def bind_streams(live: Sequence[LiveStream]) -> dict[str, str]:
    """Return the parameter that ``streams`` reads."""
    rows = [{"agent_id": stream.agent_id, "generation": stream.generation} for stream in live]
    return bind_rows("streams", rows)


def by_agent(live: Sequence[LiveStream]) -> dict[str, LiveStream]:
    """Return the youngest of each agent's streams."""
    return {stream.agent_id: stream for stream in sorted(live, key=lambda stream: stream.generation)}


async def with_something(
    connection: AsyncConnection, youngest: Mapping[str, LiveStream], busy: sa.Select[Any]
) -> list[LiveStream]:
    """Return the streams whose agent is among those that ``busy`` selects; a few streams as they are."""
    if len(youngest) <= _FEW:
        return list(youngest.values())
    return [youngest[agent_id] for agent_id in await connection.scalars(busy) if agent_id in youngest]
