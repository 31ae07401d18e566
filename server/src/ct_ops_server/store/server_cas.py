"""The server CAs as rows: ``fleet.shared_server_cas.ServerCaStore``.

A step is one transaction. It moves the counter ``server_ca`` from the version that it was planned for, whose row stays
locked until the commit, so of two nodes that take a step at the same moment one finds the counter moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit.decisions import Decision
from ct_ops_server.authority.life_cycle import Straggler
from ct_ops_server.authority.ports import Heard
from ct_ops_server.authority.server_ca_lineage import Lineage, Member, Role
from ct_ops_server.fleet.shared_server_cas import TOPIC, LineageChangedError, Recorded
from ct_ops_server.store.audit import append
from ct_ops_server.store.counters import move_counter, read_counter
from ct_ops_server.store.database import Database
from ct_ops_server.store.listening import notify
from ct_ops_server.store.presence import LEASE_LIFETIME, younger_than
from ct_ops_server.store.schema import now_ms, workers
from ct_ops_server.store.server_ca_tables import server_cas
from ct_ops_server.store.values import from_ms
from ct_ops_server.store.writer import GroupWriter

_COUNTER = "server_ca"
_REPORTED = sa.func.coalesce(workers.c.server_ca_version, -1)


class SqlServerCaStore:
    """``fleet.shared_server_cas.ServerCaStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def load(self) -> Recorded:
        """Return what is recorded, and what time the database says it is."""
        async with self._database.reading() as connection:
            # First: a step between the two has a later version, so whoever asks again finds it.
            version = await read_counter(connection, _COUNTER)
            rows = (await connection.execute(sa.select(server_cas).order_by(server_cas.c.number))).all()
            clock = from_ms(int(await connection.scalar(sa.select(now_ms())) or 0))
        members = tuple(map(_member, rows))
        return Recorded(Lineage(version, members) if members else None, clock)

    async def heard(self, worker_id: str) -> Heard:
        """Return the latest version, and the one that a worker last reported."""
        mine = sa.select(_REPORTED).where(workers.c.id == worker_id)
        async with self._database.reading() as connection:
            return Heard(await read_counter(connection, _COUNTER), await connection.scalar(mine))

    async def report(self, worker_id: str, node: str, version: int) -> None:
        """Record that a worker acts by this version; without a lease it is no worker, and nothing is recorded."""

        async def report(connection: AsyncConnection) -> None:
            mine = workers.c.id == worker_id
            await connection.execute(
                workers.update().where(mine).values(node=node, server_ca_version=version)
            )

        await self._writer.run(report)

    async def stragglers(self, version: int) -> Sequence[Straggler]:
        """Return the living workers that act by an older version."""
        query = sa.select(workers).where(younger_than(LEASE_LIFETIME), version > _REPORTED)
        async with self._database.reading() as connection:
            found = await connection.execute(query.order_by(workers.c.id))
            return [Straggler(row.id, row.node or "") for row in found]

    async def change(self, lineage: Lineage, *, expected: int, decisions: Sequence[Decision]) -> None:
        """Record a version in the place of the expected one, with what the audit log shall say.

        Raises:
            LineageChangedError: another version is recorded.
        """
        rows = [_row(each) for each in lineage.members]

        async def take(connection: AsyncConnection) -> None:
            if not await move_counter(connection, _COUNTER, expected, lineage.version):
                raise LineageChangedError
            await connection.execute(server_cas.delete())
            for row in rows:
                await connection.execute(server_cas.insert().values(recorded_at=now_ms(), **row))
            await append(connection, decisions)
            await notify(connection, TOPIC)

        await self._writer.run(take)


def _member(row: sa.Row[Any]) -> Member:
    return Member(
        number=row.number,
        role=Role(row.role),
        certificate=_parsed(row.certificate_pem),
        cross=None if row.cross_pem is None else _parsed(row.cross_pem),
        sealed_key=None if row.sealed_pem is None else row.sealed_pem.encode(),
        by_time=bool(row.by_time),
    )


def _row(member: Member) -> dict[str, Any]:
    return {
        "number": member.number,
        "role": member.role.value,
        "certificate_pem": _pem(member.certificate),
        "cross_pem": None if member.cross is None else _pem(member.cross),
        "sealed_pem": None if member.sealed_key is None else member.sealed_key.decode(),
        "by_time": member.by_time,
    }


def _parsed(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
