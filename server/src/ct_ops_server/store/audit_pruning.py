"""Removes entries that are past keeping from the database. What is left hangs on the anchor, so it verifies as before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import takewhile

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.audit_tables import audit_entries, audit_head
from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.upkeep import Upkeep

_MILLISECOND = timedelta(milliseconds=1)
_is_old = audit_entries.c.at < now_ms() - sa.bindparam("keep_ms")
_OLDEST = (
    sa.select(audit_entries.c.seq, audit_entries.c.hash, _is_old.label("is_old"))
    .order_by(audit_entries.c.seq)
    .limit(sa.bindparam("rows"))
)


class AuditPruning:
    """Forgets from the oldest on, never one out of the middle: a clock that jumped leaves no hole."""

    def __init__(
        self,
        upkeep: Upkeep,
        *,
        keep: timedelta,
        rows: int = 1_000,
        removed: Callable[[str, int], None] = lambda _table, _rows: None,
    ) -> None:
        """Prepare it; ``removed`` is told how many rows of which table are gone."""
        self._upkeep = upkeep
        self._which = {"keep_ms": keep // _MILLISECOND, "rows": rows}
        self._rows = rows
        self._removed = removed

    async def make_pass(self) -> None:
        """Forget everything that is past keeping.

        Raises:
            StoreError: the store did not answer.
        """
        count = self._rows
        while count >= self._rows:
            count, _ = await self._upkeep.step(self._forget)
            self._removed("audit_entries", count)

    async def _forget(self, connection: AsyncConnection) -> int:
        rows = (await connection.execute(_OLDEST, self._which)).all()
        old = list(takewhile(lambda row: row.is_old, rows))
        if not old:
            return 0
        last = old[-1]
        await connection.execute(audit_entries.delete().where(audit_entries.c.seq <= last.seq))
        await connection.execute(audit_head.update().values(anchor_seq=last.seq, anchor_hash=last.hash))
        return len(old)
