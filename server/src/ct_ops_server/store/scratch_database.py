"""A database of PostgreSQL for a while: made beside the one of an address, and dropped."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ct_ops_server.store import engines
from ct_ops_server.store.database_url import PostgresTarget, parse_database_url, with_database
from ct_ops_server.store.errors import BackupError
from ct_ops_server.store.faults import store_error


@asynccontextmanager
async def scratch_database(url: str) -> AsyncIterator[str]:
    """Make an empty database on the server of ``url``, and drop it with everything in it.

    Raises:
        BackupError: the user may not make one.
        StoreError: the server does not answer.
    """
    name = f"ct_ops_drill_{secrets.token_hex(6)}"
    try:
        await _outside_of_transactions(url, f'CREATE DATABASE "{name}"')
    except DBAPIError as error:
        raise BackupError(
            f"no database can be made for the drill ({error.orig}): let the user of DATABASE_URL do so for it "
            "(ALTER ROLE … CREATEDB), or name another server in DATABASE_URL"
        ) from error
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise store_error(error) from error
    try:
        yield with_database(url, name)
    finally:
        await _outside_of_transactions(url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _outside_of_transactions(url: str, statement: str) -> None:
    target = parse_database_url(url)
    assert isinstance(target, PostgresTarget)
    engine = engines.listen_engine(target)
    try:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(sa.text(statement))
    finally:
        await engine.dispose()
