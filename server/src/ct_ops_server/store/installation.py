"""What identifies this installation: its id, its store, its authorities and signing keys.

Private keys never get here; they lie sealed in the data directory. What is here is public and is
kept for good: a leaf of a retired authority must still be recognised (rule 1), a token signed with a
retired key still be verified (rule 11).
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.database import Database
from ct_ops_server.store.schema import authorities, installation, now_ms, signing_keys
from ct_ops_server.store.upsert import insert_if_absent
from ct_ops_server.store.writer import GroupWriter


class TrustState(StrEnum):
    """Whether something still signs. Of each sort at most one is active; the database sees to it."""

    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Installation:
    """Who this installation is."""

    id: str
    """Part of every leaf's SPIFFE URI; never changes."""
    store_id: bytes
    """16 bytes, made with the database: tells agents one store from another."""


@dataclass(frozen=True, slots=True)
class StoredAuthority:
    """A certificate that has signed leaves."""

    sha256: bytes
    """Of the certificate's DER."""
    certificate_pem: str
    state: TrustState


@dataclass(frozen=True, slots=True)
class StoredSigningKey:
    """The public half of a key that has signed agent tokens."""

    kid: str
    public_pem: str
    state: TrustState


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

    async def remember_authority(
        self, sha256: bytes, pem: str, state: TrustState = TrustState.ACTIVE
    ) -> None:
        """Store an authority's certificate; when it is active, the one that was becomes retired."""
        values = {"sha256": sha256, "certificate_pem": pem, "state": state.value}
        await self._remember(authorities, values, key="sha256")

    async def authorities(self) -> Sequence[StoredAuthority]:
        """Every authority that was ever remembered, oldest first."""
        async with self._database.reading() as connection:
            rows = await connection.execute(sa.select(authorities).order_by(authorities.c.recorded_at))
            return [StoredAuthority(row.sha256, row.certificate_pem, TrustState(row.state)) for row in rows]

    async def remember_signing_key(
        self, kid: str, public_pem: str, state: TrustState = TrustState.ACTIVE
    ) -> None:
        """Store the public half of a signing key; when it is active, the one that was becomes retired."""
        values = {"kid": kid, "public_pem": public_pem, "state": state.value}
        await self._remember(signing_keys, values, key="kid")

    async def signing_keys(self) -> Sequence[StoredSigningKey]:
        """Every signing key that was ever remembered, oldest first."""
        async with self._database.reading() as connection:
            rows = await connection.execute(sa.select(signing_keys).order_by(signing_keys.c.recorded_at))
            return [StoredSigningKey(row.kid, row.public_pem, TrustState(row.state)) for row in rows]

    async def _remember(self, table: sa.Table, values: dict[str, Any], *, key: str) -> None:
        async def remember(connection: AsyncConnection) -> None:
            if values["state"] == TrustState.ACTIVE.value:
                others = table.c[key] != values[key]
                await connection.execute(table.update().where(others).values(state=TrustState.RETIRED.value))
            await connection.execute(insert_if_absent(connection, table, recorded, key=key))
            await connection.execute(table.update().where(table.c[key] == values[key]).values(values))

        recorded = values | {"recorded_at": now_ms()}
        await self._writer.run(remember)
