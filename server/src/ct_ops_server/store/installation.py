"""What identifies this installation: its id, and its store. Whom it trusts is in ``trust``."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.database import Database
from ct_ops_server.store.schema import installation, now_ms
from ct_ops_server.store.upsert import insert_if_absent
from ct_ops_server.store.writer import GroupWriter


@dataclass(frozen=True, slots=True)
class Installation:
    """Who this installation is."""

    id: str
    """Part of every leaf's SPIFFE URI; never changes."""
    store_id: bytes
    """16 bytes, made with the database: tells agents one store from another."""


class InstallationStore:
    """The installation's own rows."""

    def __init__(
        self,
        database: Database,
        writer: GroupWriter,
        *,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        new_store_id: Callable[[], bytes] = lambda: secrets.token_bytes(16),
    ) -> None:
        """Prepare the store; ``new_id`` and ``new_store_id`` are asked once in a database's life."""
        self._database = database
        self._writer = writer
        self._new_id = new_id
        self._new_store_id = new_store_id

    async def open(self) -> Installation:
        """Return who this installation is; decide it when the database is new."""
        fresh = {
            "only_row": 1,
            "id": self._new_id(),
            "store_id": self._new_store_id(),
            "created_at": now_ms(),
        }

        async def find_or_create(connection: AsyncConnection) -> Installation:
            await connection.execute(insert_if_absent(connection, installation, fresh, key="only_row"))
            row = (await connection.execute(sa.select(installation))).one()
            return Installation(row.id, row.store_id)

        return await self._writer.run(find_or_create)
