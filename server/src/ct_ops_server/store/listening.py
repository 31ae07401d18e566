"""PostgreSQL's NOTIFY and LISTEN, as hints for the push bus.

``notify`` is called in the transaction of a command, never by the writer's set-based kinds, where it
would cost 40 % (rule 20). ``Listener`` keeps one connection that listens. A connection that is dead
without saying so is found out by pinging ourselves through the database: no echo, new connection.

SQLite has one process, whose commands hint by themselves: there is nothing to listen to.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.database import Database
from ct_ops_server.store.faults import store_error

if TYPE_CHECKING:
    import asyncpg

_log = logging.getLogger("ct_ops_server.store")
_CHANNEL = "ct_ops"
_PING_EVERY_S = 5.0
_ECHO_WITHIN_S = 5.0
_RETRY_AFTER_S = 1.0
_NOTIFY = sa.select(sa.func.pg_notify(_CHANNEL, sa.bindparam("topic", type_=sa.Text())))


async def notify(connection: AsyncConnection, topic: str) -> None:
    """Hint other processes at ``topic`` when the transaction is committed."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_NOTIFY, {"topic": topic})


class Listener:
    """Hears the hints of other processes; of ours too, which does no harm."""

    def __init__(
        self, database: Database, *, on_hint: Callable[[str], None], on_missed: Callable[[], None]
    ) -> None:
        """Prepare a listener.

        Args:
            database: whose hints.
            on_hint: told the topic of each.
            on_missed: told when listening has (again) begun: whatever came before was not heard.
        """
        self._database = database
        self._on_hint = on_hint
        self._on_missed = on_missed
        self._echo = asyncio.Event()
        self._ping = f"ping {secrets.token_hex(8)}"

    async def run(self) -> None:
        """Listen until cancelled; connect again after every failure."""
        if not self._database.has_listeners:
            return
        import asyncpg  # noqa: PLC0415  with SQLite it need not be installed

        # The driver's own too: what listens and pings does so without SQLAlchemy in between.
        failures = (SQLAlchemyError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
        deaf = False
        while True:
            try:
                await self._listen()
            except failures as error:
                if not deaf:
                    _log.warning("hints of other processes are not heard for now: %s", store_error(error))
                deaf = True
            else:
                deaf = False
            await asyncio.sleep(_RETRY_AFTER_S)

    async def _listen(self) -> None:
        async with self._database.listening() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            lost = asyncio.Event()
            driver.add_termination_listener(lambda _: lost.set())
            await driver.add_listener(_CHANNEL, self._heard)
            self._on_missed()
            while not lost.is_set() and await self._echoes(driver):
                await _first_of(lost, seconds=_PING_EVERY_S)
        _log.info("the connection that listens for hints was lost; connecting again")

    async def _echoes(self, driver: asyncpg.Connection[Any]) -> bool:
        self._echo.clear()
        await driver.execute("SELECT pg_notify($1, $2)", _CHANNEL, self._ping)
        return await _first_of(self._echo, seconds=_ECHO_WITHIN_S)

    def _heard(self, _connection: object, _process: int, _channel: str, payload: str) -> None:
        if payload == self._ping:
            self._echo.set()
        elif not payload.startswith("ping "):
            self._on_hint(payload)


async def _first_of(event: asyncio.Event, *, seconds: float) -> bool:
    """Wait for the event, at most so long; return whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
