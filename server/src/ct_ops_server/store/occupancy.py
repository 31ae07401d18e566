"""Whether there is a database of ours at an address, and whether somebody serves from it; nothing is made there."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ct_ops_server.store import engines
from ct_ops_server.store.database_url import SqliteTarget, Target
from ct_ops_server.store.faults import store_error
from ct_ops_server.store.migrations import stored_revision
from ct_ops_server.store.presence import LEASE_LIFETIME, younger_than


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What is at an address."""

    is_there: bool
    is_served: bool


async def occupancy_of(target: Target) -> Occupancy:
    """Look at the database. Of a SQLite file only whether it is there: the data directory's lock says who uses it.

    Raises:
        StoreError: a PostgreSQL database does not answer.
    """
    if isinstance(target, SqliteTarget):
        return Occupancy(target.path.exists(), is_served=False)
    engine = engines.read_engine(target)
    try:
        async with engine.connect() as connection:
            if await connection.run_sync(stored_revision) is None:
                return Occupancy(is_there=False, is_served=False)
            lives = sa.select(sa.literal(1)).where(younger_than(LEASE_LIFETIME)).exists()
            return Occupancy(is_there=True, is_served=bool(await connection.scalar(sa.select(lives))))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise store_error(error) from error
    finally:
        await engine.dispose()
