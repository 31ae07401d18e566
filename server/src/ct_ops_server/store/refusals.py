"""Who was not admitted, and why: ``enrolment.token_ports.RefusalStore``.

One row for a key and a reason, however often it comes back: an existing agent that is refused asks
again every five seconds for ever. In the audit log they are summed up: see ``audit.thinning``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Insert

from ct_ops_server.audit.thinning import Tally, Thinning
from ct_ops_server.enrolment.decisions import refused
from ct_ops_server.enrolment.model import Refusal, RefusalNote, RefusalRecord
from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.store.audit import append
from ct_ops_server.store.database import Database
from ct_ops_server.store.schema import now_ms, refusals
from ct_ops_server.store.upsert import insert_many_or_merge
from ct_ops_server.store.values import from_ms
from ct_ops_server.store.writer import Command, GroupWriter

_NEWEST_FIRST = (refusals.c.last_at.desc(), refusals.c.id.desc())


class SqlRefusalStore:
    """``enrolment.token_ports.RefusalStore``."""

    def __init__(
        self, database: Database, writer: GroupWriter, *, now_s: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._writer = writer
        self._now_s = now_s
        self._thinning = Thinning()

    async def record_refusals(self, notes: Sequence[RefusalNote]) -> None:
        """Store refusals: one of the same key and reason adds to the record that is there."""
        if not notes:
            return
        # In one order everywhere, so that two workers cannot wait for each other's rows.
        rows = [_values(note) for note in sorted(notes, key=attrgetter("key_id", "reason"))]

        async def record(connection: AsyncConnection) -> None:
            await connection.execute(_upsert(connection, list(rows[0])), rows)

        for note in notes:
            self._thinning.add((note.reason.value, note.token_id or ""), _tally(note, self._now_s()))
        await self._record_told(record)

    async def record_summed_up(self, *, everything: bool = False) -> None:
        """Append to the audit log what of the refusals is due, or everything that was not told yet.

        Raises:
            StoreError: it was not; it will be with the next ones.
        """
        await self._record_told(_nothing_else, everything=everything)

    async def _record_told(self, also: Command[None], *, everything: bool = False) -> None:
        told = self._thinning.due(self._now_s(), everything=everything)
        if not told and also is _nothing_else:
            return

        async def record(connection: AsyncConnection) -> None:
            await also(connection)
            await append(connection, [refused(*key, tally) for key, tally in told])

        try:
            await self._writer.run(record)
        except StoreError:
            self._thinning.put_back(told)
            raise

    async def list_refusals(
        self, *, token_id: str | None = None, reason: Refusal | None = None, limit: int
    ) -> Sequence[RefusalRecord]:
        """Return the latest, newest first; of one token, of one reason, or of all."""
        statement = sa.select(refusals).order_by(*_NEWEST_FIRST).limit(limit)
        if token_id is not None:
            statement = statement.where(refusals.c.token_id == token_id)
        if reason is not None:
            statement = statement.where(refusals.c.reason == reason.value)
        async with self._database.reading() as connection:
            return [_record(row) for row in await connection.execute(statement)]

    async def prune_refusals(self, *, keep: int) -> None:
        """Forget all but the newest: ``keep`` of those that showed a token of ours, as many of the others."""

        async def prune(connection: AsyncConnection) -> None:
            for of_kind in (refusals.c.token_id.is_(None), refusals.c.token_id.is_not(None)):
                newest = sa.select(refusals.c.id).where(of_kind).order_by(*_NEWEST_FIRST).limit(keep)
                await connection.execute(refusals.delete().where(of_kind, refusals.c.id.not_in(newest)))

        await self._writer.run(prune)


async def _nothing_else(_connection: AsyncConnection) -> None:
    """Leave the table as it is."""


def _tally(note: RefusalNote, now_s: float) -> Tally:
    return Tally(note.count, now_s, now_s, (note.hostname,), (note.observed_address,))


def _values(note: RefusalNote) -> dict[str, Any]:
    return {
        "key_id": note.key_id,
        "reason": note.reason.value,
        "token_id": note.token_id,
        "hostname": note.hostname,
        "observed_address": note.observed_address,
        "count": note.count,
    }


def _upsert(connection: AsyncConnection, names: Sequence[str]) -> Insert:
    key, now = ("key_id", "reason"), {"first_at": now_ms(), "last_at": now_ms()}
    return insert_many_or_merge(connection, refusals, names, key=key, merge=_merged, **now)


def _merged(latest: Any) -> dict[str, Any]:
    """Return what becomes of a row that is there already: who it is now, and one time more."""
    now = {name: latest[name] for name in ("token_id", "hostname", "observed_address", "last_at")}
    return now | {"count": refusals.c.count + latest["count"]}


def _record(row: sa.Row[Any]) -> RefusalRecord:
    return RefusalRecord(
        reason=Refusal(row.reason),
        key_id=row.key_id,
        hostname=row.hostname,
        observed_address=row.observed_address,
        token_id=row.token_id,
        first_at=from_ms(row.first_at),
        last_at=from_ms(row.last_at),
        # Not row.count: a row is a tuple, and tuples have a method of that name.
        count=row._mapping["count"],  # noqa: SLF001  the documented way to a column by its name
    )
