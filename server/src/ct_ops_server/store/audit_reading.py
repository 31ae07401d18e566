"""What is read of the chain: entries in their order, and how far it reaches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ct_ops_server.audit.entries import Entry, Link
from ct_ops_server.audit.lines import details_from
from ct_ops_server.store.audit_tables import audit_entries, audit_head
from ct_ops_server.store.database import Database


@dataclass(frozen=True, slots=True)
class Reach:
    """From where to where the chain is there."""

    anchor: Link
    """The oldest entry that is there follows this."""
    head: Link


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for; None: all."""

    agent: str | None = None
    token: str | None = None
    action: str | None = None
    actor: str | None = None
    since_ms: int | None = None


class SqlAuditStore:
    """The chain, for whoever reads it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reach(self) -> Reach:
        """Return from where to where the chain is there."""
        async with self._database.reading() as connection:
            row = (await connection.execute(sa.select(audit_head))).one()
        return Reach(Link(row.anchor_seq, bytes(row.anchor_hash)), Link(row.seq, bytes(row.hash)))

    async def entries_after(self, seq: int, *, limit: int) -> Sequence[Entry]:
        """Return the entries behind ``seq``, oldest first: none can appear later between two of them."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(_AFTER, {"known": seq, "most": limit})).all()
        return [entry_from(row) for row in rows]

    async def link_at(self, seq: int) -> Link | None:
        """Return the hash of one entry; None when it is not there."""
        statement = sa.select(audit_entries.c.hash).where(audit_entries.c.seq == seq)
        async with self._database.reading() as connection:
            found = await connection.scalar(statement)
        return None if found is None else Link(seq, bytes(found))

    async def list_entries(self, wanted: Wanted, *, limit: int) -> Sequence[Entry]:
        """Return the latest entries that are wanted, newest first."""
        statement = sa.select(audit_entries).order_by(audit_entries.c.seq.desc()).limit(limit)
        for column, value in _conditions(wanted):
            statement = statement.where(column == value)
        if wanted.since_ms is not None:
            statement = statement.where(audit_entries.c.at >= wanted.since_ms)
        async with self._database.reading() as connection:
            return [entry_from(row) for row in await connection.execute(statement)]


def _conditions(wanted: Wanted) -> list[tuple[sa.Column[str], str]]:
    all_of_them = {
        audit_entries.c.agent_id: wanted.agent,
        audit_entries.c.token_id: wanted.token,
        audit_entries.c.action: wanted.action,
        audit_entries.c.actor: wanted.actor,
    }
    return [(column, value) for column, value in all_of_them.items() if value is not None]


_AFTER = (
    sa.select(audit_entries)
    .where(audit_entries.c.seq > sa.bindparam("known"))
    .order_by(audit_entries.c.seq)
    .limit(sa.bindparam("most"))
)


def entry_from(row: sa.Row[Any]) -> Entry:
    """Return an entry as it was recorded."""
    return Entry(
        seq=row.seq,
        at_ms=row.at,
        action=row.action,
        actor=row.actor,
        agent=row.agent_id,
        token=row.token_id,
        subject=row.subject,
        details=details_from(json.loads(row.details)),
        hash=bytes(row.hash),
    )
