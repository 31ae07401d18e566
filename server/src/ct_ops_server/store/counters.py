"""Numbers in the order of the commits, without holes.

A counter's row stays locked until the commit of whoever raised it. So a reader that has seen number N can
never find a smaller one later: "everything after N" loses nothing (rule 20), which a sequence cannot say.
Who raises one waits for the others, so this is for decisions of operators and never for agents' writes.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.schema import counters
from ct_ops_server.store.upsert import insert_if_absent


async def raise_counter(connection: AsyncConnection, name: str) -> int:
    """Return the next number of this counter; it is taken when the transaction is committed."""
    await connection.execute(insert_if_absent(connection, counters, {"name": name, "value": 0}, key="name"))
    raised = (
        counters.update()
        .where(counters.c.name == name)
        .values(value=counters.c.value + 1)
        .returning(counters.c.value)
    )
    return int((await connection.execute(raised)).scalar_one())


async def move_counter(connection: AsyncConnection, name: str, expected: int, to: int) -> bool:
    """Set a counter that stands at ``expected``; return whether it did."""
    await connection.execute(insert_if_absent(connection, counters, {"name": name, "value": 0}, key="name"))
    stands = sa.and_(counters.c.name == name, counters.c.value == expected)
    moved = await connection.execute(
        counters.update().where(stands).values(value=to).returning(counters.c.value)
    )
    return moved.scalar_one_or_none() is not None


async def read_counter(connection: AsyncConnection, name: str) -> int:
    """Return the latest committed number, 0 when there never was one."""
    return await connection.scalar(_READ, {"counter": name}) or 0


_READ = sa.select(counters.c.value).where(counters.c.name == sa.bindparam("counter"))
