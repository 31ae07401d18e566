"""Endings: ``fleet.ports.EndingStore``, and how a decision appends one to its own transaction.

The counter's row stays locked until the commit, so numbers have the order of the commits: a reader
that has seen N can never find a smaller number later (rule 20). Decisions of operators are rare; the
lock costs nobody anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.endings import TOPIC
from ct_ops_server.fleet.model import Ending
from ct_ops_server.store.counters import raise_counter, read_counter
from ct_ops_server.store.database import Database
from ct_ops_server.store.listening import notify
from ct_ops_server.store.schema import endings, now_ms

_COUNTER = "endings"
_KEPT = timedelta(days=7)
_MILLISECOND = timedelta(milliseconds=1)


class SqlEndingStore:
    """``fleet.ports.EndingStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last_ending(self) -> int:
        """Return the number of the latest ending, 0 when there never was one."""
        async with self._database.reading() as connection:
            return await read_counter(connection, _COUNTER)

    async def endings_after(self, number: int) -> Sequence[Ending]:
        """Return the later ones that are still kept, in the order of their numbers."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(_AFTER, {"known": number})).all()
        return [Ending(row.number, row.agent_id, row.reason, row.age_ms * _MILLISECOND) for row in rows]


_AFTER = (
    sa.select(
        endings.c.number, endings.c.agent_id, endings.c.reason, (now_ms() - endings.c.at).label("age_ms")
    )
    .where(endings.c.number > sa.bindparam("known"))
    .order_by(endings.c.number)
)


async def append_ending(connection: AsyncConnection, agent_id: str, reason: str) -> None:
    """Have every process end this agent's connections, once the transaction is committed."""
    number = await raise_counter(connection, _COUNTER)
    await connection.execute(endings.delete().where(endings.c.at < now_ms() - _KEPT // _MILLISECOND))
    row = {"number": number, "agent_id": agent_id, "reason": reason, "at": now_ms()}
    await connection.execute(endings.insert().values(row))
    await notify(connection, TOPIC)
