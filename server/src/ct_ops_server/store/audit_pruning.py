"""Removes entries that are past keeping from the database. What is left hangs on the anchor, so it verifies as before.

The database's clock says what is past keeping, and may be wrong: what bounds it is in ``audit.pruning``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import takewhile

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit.entries import Link
from ct_ops_server.audit.pruning import PruningPace
from ct_ops_server.store.audit_tables import audit_entries, audit_head
from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.upkeep import Upkeep

_log = logging.getLogger("ct_ops_server.audit")
_MILLISECOND = timedelta(milliseconds=1)
_is_old = audit_entries.c.at < now_ms() - sa.bindparam("keep_ms")
_OLDEST = (
    sa.select(audit_entries.c.seq, audit_entries.c.hash, audit_entries.c.at, _is_old.label("is_old"))
    .order_by(audit_entries.c.seq)
    .limit(sa.bindparam("rows"))
)
_NEWEST = sa.select(audit_entries.c.at, now_ms().label("now")).order_by(audit_entries.c.seq.desc()).limit(1)


class AuditPruning:
    """Forgets from the oldest on, never one out of the middle: a clock that jumped leaves no hole."""

    def __init__(
        self,
        upkeep: Upkeep,
        *,
        keep: timedelta,
        signed: Callable[[], Link | None],
        rows: int = 1_000,
        removed: Callable[[str, int], None] = lambda _table, _rows: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare it.

        Args:
            upkeep: where it runs.
            keep: how long entries are kept.
            signed: returns how far the files of this data directory have the chain, signed; None: not at all. May block.
            rows: at most so many a step.
            removed: is told how many rows of which table are gone.
            clock: seconds that only grow.
        """
        self._upkeep = upkeep
        self._which = {"keep_ms": keep // _MILLISECOND, "rows": rows}
        self._signed = signed
        self._rows = rows
        self._removed = removed
        self._clock = clock
        self._pace = PruningPace()
        self._was_held = False

    async def make_pass(self) -> None:
        """Forget what is past keeping, as much of it as may go today.

        Raises:
            StoreError: the store did not answer.
        """
        try:
            signed = await asyncio.to_thread(self._signed)
        except OSError:
            return  # whoever writes the files is loud about it
        if signed is None or await self._upkeep.run(self._is_held):
            return
        count = self._rows
        while count >= self._rows:
            count, _ = await self._upkeep.step(lambda connection: self._forget(connection, signed))
            self._removed("audit_entries", count)

    async def _is_held(self, connection: AsyncConnection) -> bool:
        """Say once that the clock jumped."""
        newest = (await connection.execute(_NEWEST)).first()
        if newest is None:
            return True
        was_held, self._was_held = (
            self._was_held,
            self._pace.is_held(self._clock(), newest.now, newest.at),
        )
        if self._was_held and not was_held:
            _log.error(
                "the database's clock is ahead of this process's, or nothing was decided for a month: for a week no entry of the audit "
                "log is removed from the database, so that a clock that is wrong costs none. Look at the clock of the database's host"
            )
        return self._was_held

    async def _forget(self, connection: AsyncConnection, signed: Link) -> int:
        known = await connection.scalar(
            sa.select(audit_entries.c.hash).where(audit_entries.c.seq == signed.seq)
        )
        if known is None or bytes(known) != signed.hash:  # the files have another history than the database
            return 0
        rows = (await connection.execute(_OLDEST, self._which)).all()
        limit_ms = self._pace.limit_ms(self._clock(), rows[0].at)
        old = list(takewhile(lambda row: row.is_old and row.seq <= signed.seq and row.at <= limit_ms, rows))
        if not old:
            return 0
        last = old[-1]
        await connection.execute(audit_entries.delete().where(audit_entries.c.seq <= last.seq))
        await connection.execute(audit_head.update().values(anchor_seq=last.seq, anchor_hash=last.hash))
        return len(old)
