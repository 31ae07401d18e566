"""What is read of the chain: entries in their order, and how far it reaches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import sqlalchemy as sa

from ct_ops_server.audit.decisions import Detail
from ct_ops_server.audit.entries import Entry, Link
from ct_ops_server.audit.lines import details_from
from ct_ops_server.audit.ports import Reach, Wanted
from ct_ops_server.store.audit_tables import audit_entries, audit_head
from ct_ops_server.store.database import Database


class SqlAuditStore:
    """``audit.ports.AuditStore``."""

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
        for condition in _conditions(wanted):
            statement = statement.where(condition)
        if wanted.since_ms is not None:
            statement = statement.where(audit_entries.c.at >= wanted.since_ms)
        async with self._database.reading() as connection:
            return [entry_from(row) for row in await connection.execute(statement)]

    async def span(self, *, since_ms: int | None, until_ms: int | None) -> tuple[int, int]:
        """Return the first and last number of what was recorded in this time; the first is larger when nothing was."""
        reach = await self.reach()
        first, last = reach.anchor.seq + 1, reach.head.seq
        async with self._database.reading() as connection:
            if since_ms is not None:
                least = sa.select(sa.func.min(audit_entries.c.seq)).where(audit_entries.c.at >= since_ms)
                first = await connection.scalar(least) or last + 1
            if until_ms is not None:
                most = sa.select(sa.func.max(audit_entries.c.seq)).where(audit_entries.c.at <= until_ms)
                last = min(last, await connection.scalar(most) or first - 1)
        return first, last


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    begun = ((audit_entries.c.agent_id, wanted.agent), (audit_entries.c.token_id, wanted.token))
    for column, beginning in begun:
        if beginning:  # LIKE would read patterns
            conditions.append(sa.func.substr(column, 1, len(beginning)) == beginning)
    if wanted.action is not None:
        kind = f"{wanted.action}."
        begins = sa.func.substr(audit_entries.c.action, 1, len(kind)) == kind
        conditions.append(sa.or_(audit_entries.c.action == wanted.action, begins))
    if wanted.actor is not None:
        conditions.append(_is_by(wanted.actor))
    return conditions


def _is_by(name: str) -> sa.ColumnElement[bool]:
    """Tell whether somebody of this name acted: alone, as the kernel knew the user, or as the command said."""
    actor, begun, ended = audit_entries.c.actor, f"{name} [uid ", f", as {name}"
    begins = sa.func.substr(actor, 1, len(begun)) == begun
    ends = sa.func.substr(actor, sa.func.length(actor) - len(ended) + 1) == ended
    return sa.or_(actor == name, begins, ends)


_AFTER = (
    sa.select(audit_entries)
    .where(audit_entries.c.seq > sa.bindparam("known"))
    .order_by(audit_entries.c.seq)
    .limit(sa.bindparam("most"))
)


def entry_from(row: sa.Row[Any]) -> Entry:
    """Return an entry as it is there, whatever somebody made of it."""
    return Entry(
        seq=row.seq,
        at_ms=row.at,
        action=row.action,
        actor=row.actor,
        agent=row.agent_id,
        token=row.token_id,
        subject=row.subject,
        details=_details(row.details),
        hash=bytes(row.hash),
    )


def _details(text: str) -> Mapping[str, Detail]:
    """Return an entry's details; of what was never recorded here its text, so that its hash shows it."""
    try:
        return details_from(json.loads(text, parse_constant=_refuse, parse_float=_refuse))
    except (ValueError, AttributeError, RecursionError):
        return {"unreadable": text}


def _refuse(number: str) -> NoReturn:
    raise ValueError(number)
