"""The database: one way to write, one way to read, and whether it is ready.

``writing`` is for the writer alone: SQLite has one writer at a time and PostgreSQL is spared
needless conflicts, so everything else that wants to write hands it to ``writer.GroupWriter``.
``reading`` is for everybody: it turns what the drivers raise into the errors of ``fleet.ports``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.store import engines, migrations
from ct_ops_server.store.audit import recording
from ct_ops_server.store.database_url import PostgresTarget, SqliteTarget, Target, parse_database_url
from ct_ops_server.store.faults import Fault, fault_of, store_error

_UPGRADE_ATTEMPTS = 60
_UPGRADE_REST_S = 3

_log = logging.getLogger("ct_ops_server.store")


class Database:
    """An open database. ``dispose`` closes its connections."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._writes = engines.write_engine(target)
        self._reads = engines.read_engine(target)
        self._upkeep = engines.write_engine(target)  # connects when it is first used

    @classmethod
    async def open(cls, url: str) -> Database:
        """Open the database at ``url``; a SQLite file that does not exist is created.

        Raises:
            DatabaseUrlError: the address cannot be used.
            StoreUnavailableError: the database does not answer.
        """
        database = cls(parse_database_url(url))
        try:
            await database._connect()
        except BaseException:
            await database.dispose()
            raise
        return database

    async def dispose(self) -> None:
        """Close every connection."""
        await self._reads.dispose()
        await self._upkeep.dispose()
        await self._writes.dispose()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end of the block, else rolled back.

        Raises what the driver raises: the writer tells a refusal from an outage by it.
        """
        async with self._writes.begin() as connection, recording(connection):
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection that only reads: on SQLite in one transaction, on PostgreSQL statement by statement.

        Raises:
            StoreError: in place of anything the driver raises.
        """
        async with _as_store_errors(), self._reads.connect() as connection:
            yield connection

    @property
    def has_listeners(self) -> bool:
        """Whether other processes can hint at what they committed: PostgreSQL can tell them."""
        return isinstance(self._target, PostgresTarget)

    @asynccontextmanager
    async def upkeep(self) -> AsyncIterator[AsyncConnection]:
        """A connection beside the writer's, on PostgreSQL: for what nobody waits for.

        Raises:
            StoreError: in place of anything the driver raises.
        """
        assert isinstance(self._target, PostgresTarget)
        async with _as_store_errors(), self._upkeep.connect() as connection:
            yield connection

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[AsyncConnection]:
        """A connection of its own for LISTEN, outside of every transaction.

        Raises what the driver raises.
        """
        assert isinstance(self._target, PostgresTarget)
        engine = engines.listen_engine(self._target)
        try:
            async with engine.connect() as connection:
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")
        finally:
            await engine.dispose()

    async def ping(self) -> None:
        """Return when the database answers.

        Raises:
            StoreUnavailableError: it does not.
        """
        async with self.reading() as connection:
            await connection.execute(sa.select(sa.literal(1)))

    async def migrations_current(self) -> bool:
        """Tell whether the schema is the one this code was written for."""
        return await self.revision() == migrations.HEAD

    async def revision(self) -> str | None:
        """Return the revision of the schema; None before the first migration."""
        async with self.reading() as connection:
            return await connection.run_sync(migrations.stored_revision)

    async def upgrade(self) -> None:
        """Bring the schema to this code's; nothing happens when it is already there.

        Raises:
            SchemaNewerError: a newer version of CT-Ops has changed the schema.
            StoreUnavailableError: the database does not answer.
        """
        if await self.migrations_current():
            return
        engine = engines.migration_engine(self._target)
        try:
            await _upgrade(engine)
        finally:
            await engine.dispose()

    async def _connect(self) -> None:
        async with _as_store_errors():
            if isinstance(self._target, SqliteTarget):
                engines.claim_file(self._target.path)
            # The writer first: it is the one that turns a new SQLite file to WAL.
            async with self.writing():
                pass
        await self.ping()


@asynccontextmanager
async def _as_store_errors() -> AsyncIterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise store_error(error) from error


async def _upgrade(engine: AsyncEngine) -> None:
    """Migrate; while somebody reads a table that is to be changed, rest and try again."""
    async with _as_store_errors():
        for _ in range(_UPGRADE_ATTEMPTS):
            try:
                async with engine.begin() as connection:
                    return await connection.run_sync(migrations.upgrade)
            except SQLAlchemyError as error:
                if fault_of(error) is not Fault.CONFLICT or engine.dialect.name != "postgresql":
                    raise
                _log.warning(
                    "the schema is not changed yet: somebody reads a table for long (a backup of the database?); "
                    "trying again in %d s",
                    _UPGRADE_REST_S,
                )
                await asyncio.sleep(_UPGRADE_REST_S)
    raise StoreUnavailableError(
        "the schema could not be changed: something reads a table all the time. Look for it in pg_stat_activity, "
        "wait until it has ended, and start again"
    )
