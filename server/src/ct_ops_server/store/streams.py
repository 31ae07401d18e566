"""The writes of heartbeat streams, each kind one statement for a whole group.

Rule 18 lives in the WHERE clauses here: opening raises the generation of an *active* agent, and
every later write names that generation. So a heartbeat cannot undo a revocation, and the late close
of an old stream cannot mark a reconnected host offline. The clock is the database's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.model import (
    AgentStatus,
    Disk,
    HeartbeatWrite,
    Interface,
    StreamClosing,
    StreamOpened,
    StreamOpening,
    StreamRefused,
)
from ct_ops_server.store import sides
from ct_ops_server.store.database import Database
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Document, Integer64, Real, agent_facts, agents, now_ms
from ct_ops_server.store.upsert import upsert_from
from ct_ops_server.store.values import status_from
from ct_ops_server.store.writer import GroupWriter

_VITALS: dict[str, Any] = {
    "cpu_percent": Real,
    "memory_percent": Real,
    "disk_percent": Real,
    "uptime_s": Integer64,
    "reported_at_s": Integer64,
    "agent_version": sa.Text(),
    "os": sa.Text(),
    "os_version": sa.Text(),
    "arch": sa.Text(),
    "clock_skew_ms": Integer64,
}

_ACTIVE = agents.c.status == AgentStatus.ACTIVE.value
_opening = row_set(
    "opening", agent_id=sa.Text(), key_id=sa.Text(), worker_id=sa.Text(), interval_ms=Integer64
)
_beat = row_set("beat", agent_id=sa.Text(), generation=Integer64, **_VITALS)
_closing = row_set("closing", agent_id=sa.Text(), generation=Integer64)
_facts = row_set("facts", agent_id=sa.Text(), disks=Document, interfaces=Document)

_OPEN = (
    agents.update()
    .where(agents.c.id == _opening.c.agent_id, agents.c.key_id == _opening.c.key_id, _ACTIVE)
    .values(
        generation=agents.c.generation + 1,
        online=True,
        worker_id=_opening.c.worker_id,
        interval_ms=_opening.c.interval_ms,
        last_seen_at=now_ms(),
        connected_at=now_ms(),
    )
    .returning(agents.c.id, agents.c.generation)
)
_FIND_STATUS = sa.select(agents.c.id, agents.c.status, agents.c.key_id).where(
    agents.c.id.in_(sa.bindparam("ids", expanding=True))
)
_RECORD = (
    agents.update()
    .where(agents.c.id == _beat.c.agent_id, agents.c.generation == _beat.c.generation, _ACTIVE)
    # online: the sweep of another worker may have taken a slow one for dead; its agents come back here.
    .values(online=True, last_seen_at=now_ms(), **{name: _beat.c[name] for name in _VITALS})
    .returning(agents.c.id)
)
_CLOSE = (
    agents.update()
    .where(agents.c.id == _closing.c.agent_id, agents.c.generation == _closing.c.generation)
    .values(online=False, worker_id=None)
)


class _BeatRow(Struct, frozen=True):
    """A heartbeat as the row set ``beat`` reads it."""

    agent_id: str
    generation: int
    cpu_percent: float
    memory_percent: float
    disk_percent: float
    uptime_s: int
    reported_at_s: int
    agent_version: str
    os: str
    os_version: str
    arch: str
    clock_skew_ms: int | None


class _FactsRow(Struct, frozen=True):
    """The lists of a heartbeat as the row set ``facts`` reads them: nested JSON arrives as text."""

    agent_id: str
    disks: list[Disk]
    interfaces: list[Interface]


class OpenStreams:
    """Raise generations; say why not where there was nothing to raise."""

    name = "open_stream"

    async def apply(
        self, connection: AsyncConnection, writes: Sequence[StreamOpening]
    ) -> Sequence[StreamOpened | StreamRefused]:
        """Store the openings, one outcome each."""
        found = await sides.look(connection, writes)
        served = [each for each in writes if each.agent_id in found and found[each.agent_id].serves(each)]
        rows = [_opening_row(opening) for opening in served]
        opened = {
            row.id: row.generation for row in await connection.execute(_OPEN, bind_rows("opening", rows))
        }
        clones = await sides.note(connection, _to_note(served, opened, found), found)
        return [
            StreamRefused(AgentStatus.QUARANTINED, clone_found=True)
            if opening.agent_id in clones
            else StreamOpened(
                opened[opening.agent_id], must_rotate=found[opening.agent_id].must_rotate(opening)
            )
            if opening.agent_id in opened
            else _refused(opening, found.get(opening.agent_id))
            for opening in writes
        ]


class RecordHeartbeats:
    """Store the frames whose generation is still current; the facts of those only."""

    name = "heartbeat"

    async def apply(self, connection: AsyncConnection, writes: Sequence[HeartbeatWrite]) -> Sequence[bool]:
        """Store the frames; False for each that is fenced."""
        beats = bind_rows("beat", [_beat_row(write) for write in writes])
        stored = set(await connection.scalars(_RECORD, beats))
        facts = [
            _FactsRow(write.agent_id, write.facts.disks, write.facts.interfaces)
            for write in writes
            if write.facts is not None and write.agent_id in stored
        ]
        if facts:
            await connection.execute(
                upsert_from(connection, agent_facts, _facts, key="agent_id"), bind_rows("facts", facts)
            )
        return [write.agent_id in stored for write in writes]


class CloseStreams:
    """Mark agents offline whose generation is still the closing stream's."""

    name = "close_stream"

    async def apply(self, connection: AsyncConnection, writes: Sequence[StreamClosing]) -> Sequence[None]:
        """Store the closings."""
        rows = [{"agent_id": closing.agent_id, "generation": closing.generation} for closing in writes]
        await connection.execute(_CLOSE, bind_rows("closing", rows))
        return [None] * len(writes)


class SqlStreamStore:
    """``fleet.ports.StreamStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer
        self._open, self._record, self._close = OpenStreams(), RecordHeartbeats(), CloseStreams()

    async def open_stream(self, opening: StreamOpening) -> StreamOpened | StreamRefused:
        """Raise the agent's generation, mark it online on this worker; only while it is active."""
        return await self._writer.submit(self._open, opening, key=opening.agent_id)

    async def record_heartbeat(self, write: HeartbeatWrite, *, patience_s: float = 0.0) -> bool:
        """Store a frame as the latest. False: the generation is no longer current, or not active."""
        return await self._writer.submit(self._record, write, key=write.agent_id, patience_s=patience_s)

    async def close_stream(self, closing: StreamClosing) -> None:
        """Mark the agent offline, unless a younger stream has taken over."""
        await self._writer.submit(self._close, closing, key=closing.agent_id)

    async def agent_status(self, agent_id: str) -> AgentStatus | None:
        """Return the status in the agent's row now; None when there is no such agent."""
        async with self._database.reading() as connection:
            found = await _find_rows(connection, [agent_id])
        return status_from(found[agent_id].status) if agent_id in found else None


async def _find_rows(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, Any]:
    if not ids:
        return {}
    rows = (await connection.execute(_FIND_STATUS, {"ids": ids})).all()
    return {row.id: row for row in rows}


def _to_note(
    openings: Sequence[StreamOpening], opened: Mapping[str, int], found: Mapping[str, sides.Found]
) -> list[StreamOpening]:
    """Return the openings that are evidence: those that succeeded, and those of agents in quarantine."""
    return [
        each
        for each in openings
        if each.agent_id in opened
        or (each.agent_id in found and found[each.agent_id].is_quarantined_with(each.key_id))
    ]


def _opening_row(opening: StreamOpening) -> dict[str, Any]:
    return {
        "agent_id": opening.agent_id,
        "key_id": opening.key_id,
        "worker_id": opening.worker_id,
        "interval_ms": _milliseconds(opening.interval),
    }


def _refused(opening: StreamOpening, found: sides.Found | None) -> StreamRefused:
    if found is None:
        return StreamRefused(None)
    is_split_off = found.status is AgentStatus.ACTIVE and not found.serves(opening)
    key_replaced = found.key_id != opening.key_id
    return StreamRefused(found.status, key_replaced=key_replaced, split_off=is_split_off)


def _milliseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration / timedelta(milliseconds=1))


def _beat_row(write: HeartbeatWrite) -> _BeatRow:
    vitals = write.vitals
    return _BeatRow(
        write.agent_id,
        write.generation,
        vitals.cpu_percent,
        vitals.memory_percent,
        vitals.disk_percent,
        vitals.uptime_s,
        vitals.reported_at_s,
        vitals.agent_version,
        vitals.os,
        vitals.os_version,
        vitals.arch,
        _milliseconds(write.clock_skew),
    )
