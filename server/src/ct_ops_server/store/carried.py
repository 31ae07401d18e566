"""Carried requests that were answered: ``enrolment.carried_ports.CarriedStore``.

Spending is one insert: of two servers that are shown the same file at the same time, one spends its id. Every reply
that goes out is a decision of the operator's, and stands in the audit log; a second copy says that it is one.
"""

from __future__ import annotations

from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.enrolment.carried_ports import AnsweredRequest
from ct_ops_server.store.audit import append
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
        """Spend the id in one transaction, with a line in the audit log; again for the same answer, with another line.

        Returns:
            False, and nothing is changed, when it is spent by another request, or was given another leaf.
        """
        values = asdict(answered) | {"answered_at": now_ms()}
        same = sa.select(carried_requests.c.request_id).where(
            carried_requests.c.request_id == answered.request_id,
            carried_requests.c.digest == answered.digest,
            carried_requests.c.leaf_sha256 == answered.leaf_sha256,
        )

        async def record(connection: AsyncConnection) -> bool:
            insert = insert_if_absent(connection, carried_requests, values, key="request_id")
            is_new = bool((await connection.execute(insert)).rowcount)
            if not is_new and await connection.scalar(same) is None:
                return False
            await append(connection, [decision_of(answered, again=not is_new)])
            return True

        return await self._writer.run(record)


def decision_of(answered: AnsweredRequest, *, again: bool) -> Decision:
    """Return the line of the audit log that an answer gets."""
    return Decision(
        Action.ENROLMENT_SIGNED,
        answered.actor,
        agent=answered.agent_id,
        subject=answered.request_id,
        details={
            "key_id": answered.key_id,
            "leaf_sha256": answered.leaf_sha256.hex(),
            "request_sha256": answered.digest.hex(),
            "again": again,
        },
    )


def _answered(row: sa.Row[tuple[object, ...]]) -> AnsweredRequest:
    return AnsweredRequest(
        request_id=row.request_id,
        digest=row.digest,
        key_id=row.key_id,
        agent_id=row.agent_id,
        leaf_sha256=row.leaf_sha256,
        actor=row.actor,
    )
