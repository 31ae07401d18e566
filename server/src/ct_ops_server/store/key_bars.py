"""Keys that must not come back as an agent, though no revoked agent holds them: ``barred_keys``.

* ``SPLIT``: copies of an agent hold it. They are told to make keys of their own.
* ``FOLLOWED``: the same, and a restored database was told that the agent itself has another one since.
* ``REPLACED``: the hardware that held it was replaced.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.side_tables import barred_keys
from ct_ops_server.store.upsert import upsert

SPLIT = "split"
FOLLOWED = "followed"
REPLACED = "replaced"


async def bar_key(connection: AsyncConnection, key_id: str, agent_id: str, why: str) -> None:
    """Bar a key in the transaction of the decision."""
    values = {"key_id": key_id, "agent_id": agent_id, "why": why, "barred_at": now_ms()}
    await connection.execute(upsert(connection, barred_keys, values, key="key_id"))


async def note_followed(connection: AsyncConnection, key_id: str) -> None:
    """Take note that whoever holds a key that was split is a copy: the agent that kept it has another one."""
    split = sa.and_(barred_keys.c.key_id == key_id, barred_keys.c.why == SPLIT)
    await connection.execute(barred_keys.update().where(split).values(why=FOLLOWED))


async def is_barred(connection: AsyncConnection, key_id: str) -> bool:
    """Tell whether a key is barred."""
    wanted = sa.select(barred_keys.c.key_id).where(barred_keys.c.key_id == key_id)
    return await connection.scalar(wanted) is not None
