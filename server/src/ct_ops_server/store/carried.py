"""Carried requests that were answered: ``enrolment.carried_ports.CarriedStore``.

Spending is one insert: of two servers that are shown the same file at the same time, one spends its id.
"""

from __future__ import annotations

from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.enrolment.carried_ports import AnsweredRequest
from ct_ops_server.store.carried_tables import carried_requests
from ct_ops_server.store.database import Database
from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.upsert import insert_if_absent
from ct_ops_server.store.writer import GroupWriter


class SqlCarriedStore:
    """``enrolment.carried_ports.CarriedStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def find_answered(self, request_id: str) -> AnsweredRequest | None:
        """Return what became of the request with this id; None when it was never answered."""
        statement = sa.select(carried_requests).where(carried_requests.c.request_id == request_id)
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).first()
        return None if row is None else _answered(row)

    async def record_answered(self, answered: AnsweredRequest) -> bool:
        """Spend the id in one statement; False, and nothing is changed, when it is spent already."""
        values = asdict(answered) | {"answered_at": now_ms()}

        async def record(connection: AsyncConnection) -> bool:
            insert = insert_if_absent(connection, carried_requests, values, key="request_id")
            return bool((await connection.execute(insert)).rowcount)

        return await self._writer.run(record)


def _answered(row: sa.Row[tuple[object, ...]]) -> AnsweredRequest:
    return AnsweredRequest(
        request_id=row.request_id,
        digest=row.digest,
        key_id=row.key_id,
        agent_id=row.agent_id,
        leaf_sha256=row.leaf_sha256,
        actor=row.actor,
    )
