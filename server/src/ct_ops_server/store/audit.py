"""Where the chain grows: decisions are appended in the transaction that carries them out.

Whoever decides calls ``append`` with the connection of its transaction. That only notes the decisions; the
transaction writes them as its very last act (``recording``), all of its commands together: one lock, one
INSERT. So a group of three hundred registrations makes the chain wait once, two workers or two nodes never
fork it, and nobody who holds the chain waits for any other row.

A command that fails is undone alone, by its SAVEPOINT; ``kept_if_done`` forgets its decisions with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit.decisions import Decision
from ct_ops_server.audit.entries import Entry, Link, canonical, chained
from ct_ops_server.audit.verification import breaks
from ct_ops_server.store.audit_tables import audit_entries, audit_head
from ct_ops_server.store.schema import now_ms

_NOTED = "ct_ops_audit_noted"


class ChainMismatchError(Exception):
    """Entries do not follow the head of this database's chain."""


_LOCK_HEAD = sa.select(audit_head.c.seq, audit_head.c.hash, now_ms().label("at")).with_for_update()
_MOVE_HEAD = audit_head.update().values(seq=sa.bindparam("reached"), hash=sa.bindparam("reached_hash"))
_INSERT = audit_entries.insert()


async def append(connection: AsyncConnection, decisions: Sequence[Decision]) -> None:
    """Record the decisions when the transaction of ``connection`` is committed, and only then.

    The transaction is one of the writer's (``Database.writing``): a command's, or a kind's of writes.
    """
    _noted(connection).extend(decisions)


@asynccontextmanager
async def recording(connection: AsyncConnection) -> AsyncIterator[None]:
    """Write what is appended inside the block, at its end; the caller commits next, and does nothing else."""
    noted: list[Decision] = []
    info = connection.info  # of a connection that has died meanwhile it cannot be had any more
    info[_NOTED] = noted
    try:
        yield
        if noted:
            await _write(connection, noted)
    finally:
        info.pop(_NOTED, None)


@contextmanager
def kept_if_done(connection: AsyncConnection) -> Iterator[None]:
    """Forget what is appended inside the block when it raises: what was decided there is undone."""
    noted: list[Decision] = connection.info.get(_NOTED, [])
    before = len(noted)
    try:
        yield
    except BaseException:
        del noted[before:]
        raise


async def adopt(connection: AsyncConnection, entries: Sequence[Entry]) -> None:
    """Put entries back that the database has lost: ``audit.replay.continuation`` of its head.

    Raises:
        ChainMismatchError: they do not follow the head. Nothing was changed.
    """
    head = (await connection.execute(_LOCK_HEAD)).one()
    found = breaks(entries, after=Link(head.seq, head.hash))
    if found:
        raise ChainMismatchError(str(found[0]))
    if entries:
        await connection.execute(_INSERT, [_row(entry) for entry in entries])
        await _move_head(connection, entries[-1])


def _noted(connection: AsyncConnection) -> list[Decision]:
    noted: list[Decision] | None = connection.info.get(_NOTED)
    if noted is None:
        raise RuntimeError("a decision can only be recorded in a transaction of Database.writing()")
    return noted


async def _write(connection: AsyncConnection, decisions: Sequence[Decision]) -> None:
    head = (await connection.execute(_LOCK_HEAD)).one()
    entries = chained(decisions, Link(head.seq, head.hash), at_ms=head.at)
    await connection.execute(_INSERT, [_row(entry) for entry in entries])
    await _move_head(connection, entries[-1])


async def _move_head(connection: AsyncConnection, last: Entry) -> None:
    await connection.execute(_MOVE_HEAD, {"reached": last.seq, "reached_hash": last.hash})


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "at": entry.at_ms,
        "action": entry.action,
        "actor": entry.actor,
        "agent_id": entry.agent,
        "token_id": entry.token,
        "subject": entry.subject,
        "details": canonical(entry.details).decode(),
        "hash": entry.hash,
    }
