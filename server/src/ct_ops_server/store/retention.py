"""Retention: samples that are older than they are kept for go, piece by piece.

A piece is a transaction of its own, small enough that heartbeats do not notice it, and deleting rests for
several times as long as it took. Series are looked at in the order of their ids; each finds its old samples
at the front of its part of the index, so a pass over a database with nothing to delete is quick. Where an
agent was deleted, all of its samples are too old. A series that has no samples left goes too, so that
what a host no longer has does not count towards its limit for ever.

Several servers on one database may do this at once: deleting twice is deleting once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.store.sample_tables import collectors, samples, series
from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.series import guard
from ct_ops_server.store.writer import GroupWriter

KEEP = timedelta(days=7)
"""Default of how long samples are kept."""

_PASS_EVERY_S = 600.0
_SHORTEST_REST_S = 0.05
_FOR_EVER = 2**63 - 1
_MILLISECOND = timedelta(milliseconds=1)

_log = logging.getLogger("ct_ops_server.retention")

_NEXT_SERIES = (
    sa.select(series.c.id, series.c.agent_id)
    .where(series.c.id > sa.bindparam("after"))
    .order_by(series.c.id)
    .limit(sa.bindparam("series"))
)
_old = (
    sa.select(samples.c.series_id, samples.c.ts_ms)
    .where(
        samples.c.series_id.in_(sa.bindparam("ids", expanding=True)),
        samples.c.ts_ms < sa.bindparam("before"),
    )
    .limit(sa.bindparam("samples"))
)
_DELETE_OLD = samples.delete().where(sa.tuple_(samples.c.series_id, samples.c.ts_ms).in_(_old))
_IS_EMPTY = sa.and_(
    series.c.id.in_(sa.bindparam("ids", expanding=True)),
    sa.not_(sa.exists().where(samples.c.series_id == series.c.id)),
)
_FIND_EMPTY = sa.select(series.c.id).where(_IS_EMPTY)
_DELETE_EMPTY = series.delete().where(_IS_EMPTY)
_DELETE_STOPPED = collectors.delete().where(
    collectors.c.interval_ms.is_(None), collectors.c.stored_at < sa.bindparam("before")
)


@dataclass(frozen=True, slots=True)
class Pieces:
    """How much at once."""

    series: int = 200
    """Looked at in one transaction."""
    samples: int = 5_000
    """Deleted in one transaction, at most twice that."""
    rest: float = 4.0
    """How much longer than its transaction took deleting rests."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one transaction did."""

    last_series: int | None
    """Where to go on; None: that was the end."""
    deleted: int


class Retention:
    """Deletes what is too old, for as long as it runs."""

    def __init__(
        self,
        writer: GroupWriter,
        *,
        keep: timedelta = KEEP,
        pieces: Pieces = Pieces(),
        deleted: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._keep_ms = keep // _MILLISECOND
        self._pieces = pieces
        self._deleted = deleted
        self._clock = clock

    async def run(self) -> None:
        """Make a pass now and then. An outage of the database ends a pass, not this."""
        while True:
            try:
                await self.make_pass()
            except StoreError as error:
                _log.warning("old samples are not deleted now: %s", error)
            await asyncio.sleep(_PASS_EVERY_S)

    async def make_pass(self) -> int:
        """Delete everything that is too old; return how many samples that were.

        Raises:
            StoreError: the store did not answer.
        """
        deleted, after = 0, 0
        await self._writer.run(self._forget_collectors)
        while True:
            started = self._clock()
            piece = await self._writer.run(partial(self._delete, after=after))
            deleted += piece.deleted
            self._deleted(piece.deleted)
            if piece.last_series is None:
                return deleted
            after = piece.last_series
            took = self._clock() - started
            await asyncio.sleep(max(_SHORTEST_REST_S, took * self._pieces.rest) if piece.deleted else 0)

    async def _delete(self, connection: AsyncConnection, *, after: int) -> _Piece:
        found = (
            await connection.execute(_NEXT_SERIES, {"after": after, "series": self._pieces.series})
        ).all()
        if not found:
            return _Piece(None, 0)
        nobodys = [row.id for row in found if row.agent_id is None]
        owned = [row.id for row in found if row.agent_id is not None]
        before = await self._oldest_kept(connection)
        deleted = await self._delete_old(connection, owned, before)
        deleted += await self._delete_old(connection, nobodys, _FOR_EVER)
        if deleted >= self._pieces.samples:
            return _Piece(after, deleted)  # there may be more of these
        await _delete_empty(connection, [row.id for row in found])
        return _Piece(found[-1].id, deleted)

    async def _forget_collectors(self, connection: AsyncConnection) -> None:
        await connection.execute(_DELETE_STOPPED, {"before": await self._oldest_kept(connection)})

    async def _oldest_kept(self, connection: AsyncConnection) -> int:
        now: int = (await connection.execute(sa.select(now_ms()))).scalar_one()
        return now - self._keep_ms

    async def _delete_old(self, connection: AsyncConnection, ids: Sequence[int], before: int) -> int:
        if not ids:
            return 0
        which = {"ids": ids, "before": before, "samples": self._pieces.samples}
        return (await connection.execute(_DELETE_OLD, which)).rowcount


async def _delete_empty(connection: AsyncConnection, ids: Sequence[int]) -> None:
    empty = list(await connection.scalars(_FIND_EMPTY, {"ids": ids}))
    if empty:
        # Looked for again when nobody can add to them any more.
        await guard(connection, alone=True)
        await connection.execute(_DELETE_EMPTY, {"ids": empty})
