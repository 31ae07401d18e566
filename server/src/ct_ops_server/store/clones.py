"""Sides of agents as operators read them: ``fleet.clones.CloneStore``."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.sides import SideLog
from ct_ops_server.store.database import Database
from ct_ops_server.store.schema import agents
from ct_ops_server.store.side_tables import agent_sides
from ct_ops_server.store.sides import decode_log

_QUARANTINED = (
    sa.select(agents.c.id, agent_sides.c.document)
    .select_from(agents.outerjoin(agent_sides, agent_sides.c.agent_id == agents.c.id))
    .where(agents.c.status == AgentStatus.QUARANTINED.value)
)


class SqlCloneStore:
    """``fleet.clones.CloneStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sides(self, agent_id: str) -> SideLog:
        """Return who has spoken as an agent; nobody of an agent that there is not."""
        wanted = sa.select(agent_sides.c.document).where(agent_sides.c.agent_id == agent_id)
        async with self._database.reading() as connection:
            return decode_log(await connection.scalar(wanted))

    async def logs_of_quarantined(self) -> Sequence[tuple[str, SideLog]]:
        """Return the ids of agents in quarantine, with their sides; the latest first."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(_QUARANTINED)).all()
        logs = [(row.id, decode_log(row.document)) for row in rows]
        return sorted(logs, key=lambda each: (-each[1].since_ms, each[0]))
