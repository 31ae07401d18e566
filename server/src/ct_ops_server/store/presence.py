"""Leases of workers, and who counts as online.

An agent is online when a stream of its holds it so *and* some worker lives: a store that no server
runs on shows nobody online. The clock is the database's on every side of every comparison.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.database import Database
from ct_ops_server.store.schema import agents, now_ms, workers
from ct_ops_server.store.upsert import upsert
from ct_ops_server.store.writer import GroupWriter

LEASE_LIFETIME = timedelta(seconds=15)
"""How old a lease may be and still count as a living worker (rule 18)."""


def younger_than(age: timedelta) -> sa.ColumnElement[bool]:
    """Return the condition that a worker's lease is younger than ``age``."""
    return workers.c.lease_at > now_ms() - round(age / timedelta(milliseconds=1))


def is_online() -> sa.ColumnElement[bool]:
    """Return the condition that an agent's row means "online" at this moment."""
    return sa.and_(agents.c.online, _some_worker_lives())


def _some_worker_lives() -> sa.Exists:
    return sa.select(sa.literal(1)).where(younger_than(LEASE_LIFETIME)).exists()


class SqlPresenceStore:
    """``fleet.ports.PresenceStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def some_worker_lives(self) -> bool:
        """Tell whether a server is running on this database."""
        async with self._database.reading() as connection:
            return bool(await connection.scalar(sa.select(_some_worker_lives())))

    async def renew_lease(self, worker_id: str) -> None:
        """Insert or renew this worker's lease."""

        async def renew(connection: AsyncConnection) -> None:
            lease = {"id": worker_id, "lease_at": now_ms()}
            await connection.execute(upsert(connection, workers, lease, key="id"))

        await self._writer.run(renew)

    async def drop_lease(self, worker_id: str) -> None:
        """End this worker's lease and mark its agents offline: an orderly shutdown."""

        async def drop(connection: AsyncConnection) -> None:
            await connection.execute(workers.delete().where(workers.c.id == worker_id))
            await connection.execute(
                agents.update()
                .where(agents.c.worker_id == worker_id, agents.c.online)
                .values(online=False, worker_id=None)
            )

        await self._writer.run(drop)

    async def sweep(self, *, lease_timeout: timedelta) -> list[str]:
        """Mark offline every agent whose worker's lease is older; return their ids, forget dead workers."""

        async def sweep(connection: AsyncConnection) -> list[str]:
            await connection.execute(workers.delete().where(sa.not_(younger_than(lease_timeout))))
            return list(await connection.scalars(_MARK_ORPHANS))

        return sorted(await self._writer.run(sweep))


# After the dead workers' rows are gone, whoever is in the table lives. The worker's name stays on the
# agent: when it was only slow, its next heartbeat marks the agent online again.
_MARK_ORPHANS = (
    agents.update()
    .where(agents.c.online, sa.not_(sa.exists().where(workers.c.id == agents.c.worker_id)))
    .values(online=False)
    .returning(agents.c.id)
)
