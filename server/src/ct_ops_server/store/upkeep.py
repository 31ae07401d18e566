"""Upkeep: where rolling up and removing write, so that neither holds up what agents deliver.

On PostgreSQL that is a connection of its own, and one process at a time: whoever finds the lock taken leaves the work
to the other one. On SQLite there is one writer, so steps go through it like any command, and rest afterwards.
A step may run again after it failed, so it changes nothing but the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.store.database import Database
from ct_ops_server.store.faults import store_error
from ct_ops_server.store.writer import Command, GroupWriter

R = TypeVar("R")

_LOCK = 0x75706B656570
"""A PostgreSQL advisory lock: any constant will do, as long as all workers take the same."""
_WAIT_NOT_LONG = sa.text("SET LOCAL lock_timeout = '2s'")
_SHORTEST_REST_S = 0.005
_LATE_S = 3_600.0


class UpkeepElsewhereError(StoreError):
    """Another process is at it: there is nothing to do here."""


class Upkeep:
    """Runs steps, and rests between them."""

    def __init__(
        self,
        database: Database,
        writer: GroupWriter,
        *,
        rest: float = 4.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare it.

        Args:
            database: where PostgreSQL's own connection comes from.
            writer: who writes on SQLite.
            rest: how much longer than a step took the rest after it takes.
            clock: seconds that only grow.
        """
        self._database = database
        self._writer = writer
        self._rest = self._usual_rest = rest
        self._clock = clock
        self._connection: AsyncConnection | None = None

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be the one process that does this, for as long as the block lasts.

        Raises:
            UpkeepElsewhereError: another process is.
            StoreError: the store does not answer.
        """
        if not self._database.has_listeners:
            yield
            return
        async with self._database.upkeep() as connection:
            if not await _call(connection, sa.func.pg_try_advisory_lock(_LOCK)):
                raise UpkeepElsewhereError("another server on this database does its upkeep")
            self._connection = connection
            try:
                yield
            finally:
                self._connection = None
                await _unlock(connection)

    async def run(self, command: Command[R]) -> R:
        """Run one step in a transaction of its own, inside of ``alone``.

        Raises:
            WriteRefusedError: the database refuses what the step does.
            StoreUnavailableError: it did not answer, or something was in the way for too long.
        """
        if not self._database.has_listeners:
            return await self._writer.run(command)
        assert self._connection is not None
        try:
            async with self._connection.begin():
                # Who writes waits behind whoever waits for a lock on the table.
                await self._connection.execute(_WAIT_NOT_LONG)
                return await command(self._connection)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise store_error(error) from error

    def hurry(self, late_s: float) -> None:
        """Rest less the longer work has been waiting, and not at all once that is an hour."""
        self._rest = self._usual_rest * max(0.0, 1.0 - late_s / _LATE_S)

    async def step(self, command: Command[R]) -> tuple[R, float]:
        """Run one step and rest; return what it returned, and how many seconds it took.

        Raises:
            StoreError: see ``run``.
        """
        started = self._clock()
        result = await self.run(command)
        took = self._clock() - started
        await asyncio.sleep(max(_SHORTEST_REST_S, took * self._rest) if self._usual_rest else 0)
        return result, took


async def _call(connection: AsyncConnection, function: sa.Function[bool]) -> bool:
    async with connection.begin():
        return bool(await connection.scalar(sa.select(function)))


async def _unlock(connection: AsyncConnection) -> None:
    try:
        await _call(connection, sa.func.pg_advisory_unlock(_LOCK))
    except (SQLAlchemyError, OSError, TimeoutError):
        # The lock goes with the connection, so the connection has to go.
        await connection.invalidate()


class StepSize:
    """How much one step takes on: what took about so long lately."""

    def __init__(self, size: int, *, least: int, most: int, aim_s: float = 0.1) -> None:
        self.now = size
        self._least, self._most = least, most
        self.aim_s = aim_s

    def took(self, seconds: float) -> None:
        """Learn from a step of this size."""
        if seconds > self.aim_s:
            self.now = max(self._least, self.now // 2)
        elif seconds < self.aim_s / 4:
            self.now = min(self._most, self.now * 2)
