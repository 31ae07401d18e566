"""What is installed on hosts: ``fleet.work_ports.InventoryStore``.

A scan is stored whole, in one transaction, or not at all: packages that are new, those that are still
there (``first_seen_at`` stays), those that have come back, and those that are gone. The task's own row,
locked, says whether the upload may count.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.orders import PackageRecord, ScannedPackage, ScanStored
from ct_ops_server.fleet.tasks import Nothing, SignOfLife
from ct_ops_server.fleet.work_ports import ScanRefusedError
from ct_ops_server.store.database import Database
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, agents, now_ms
from ct_ops_server.store.task_steps import LockedTasks, take
from ct_ops_server.store.upsert import merge_from
from ct_ops_server.store.values import from_ms, maybe_from_ms
from ct_ops_server.store.work_tables import software_packages
from ct_ops_server.store.writer import GroupWriter

_TASK_TYPE = "software_inventory"
_GONE_ARE_KEPT = timedelta(days=400)
_KEY = ("agent_id", "source", "name", "version", "architecture")
_scanned = row_set(
    "scanned",
    source=sa.Text(),
    name=sa.Text(),
    version=sa.Text(),
    architecture=sa.Text(),
    publisher=sa.Text(),
    installed_at_s=Integer64,
)
_scan = sa.bindparam("scan", type_=sa.Text())
_agent = sa.bindparam("agent", type_=sa.Text())
_at = sa.bindparam("at", type_=Integer64)
_FOUND = sa.select(
    _agent.label("agent_id"),
    *_scanned.c,
    _at.label("first_seen_at"),
    _at.label("last_seen_at"),
    _scan.label("last_scan"),
)
_of_agent = software_packages.c.agent_id == _agent
_is_there = software_packages.c.removed_at.is_(None)
_COUNT_NEW = sa.select(sa.func.count()).where(
    _of_agent, software_packages.c.last_scan == _scan, software_packages.c.first_seen_at == _at
)
_MARK_REMOVED = (
    software_packages.update()
    .where(_of_agent, _is_there, software_packages.c.last_scan != _scan)
    .values(removed_at=_at)
    .returning(software_packages.c.name)
)
_FORGET_OLD = software_packages.delete().where(
    _of_agent, software_packages.c.removed_at < _at - round(_GONE_ARE_KEPT.total_seconds() * 1000)
)


class SqlInventoryStore:
    """``fleet.work_ports.InventoryStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def begin_scan(self, agent_id: str, task_id: str, attempt: int) -> None:
        """Take a first chunk, or a later one, as the task's sign of life."""

        async def begin(connection: AsyncConnection) -> None:
            await _take_chunk(connection, agent_id, task_id, attempt)

        await self._writer.run(begin)

    async def store_scan(
        self, agent_id: str, task_id: str, attempt: int, packages: Sequence[ScannedPackage]
    ) -> ScanStored:
        """Store a complete scan: what is new, what is still there, what is gone; all of it or nothing."""
        document = bind_rows("scanned", _each_once(packages))

        async def store(connection: AsyncConnection) -> ScanStored:
            await _take_chunk(connection, agent_id, task_id, attempt)
            at = (await connection.execute(sa.select(now_ms()))).scalar_one()
            scan = {"agent": agent_id, "scan": task_id, "at": at}
            await connection.execute(_merge(connection), document | scan)
            removed = (await connection.execute(_MARK_REMOVED, scan)).all()
            await connection.execute(_FORGET_OLD, {"agent": agent_id, "at": at})
            new = await connection.scalar(_COUNT_NEW, scan) or 0
            return ScanStored(found=len(packages), new=new, removed=len(removed))

        return await self._writer.run(store)

    async def packages(self, agent_id: str, *, name: str | None, removed: bool) -> Sequence[PackageRecord]:
        """Return a host's packages by name; ``removed``: those that are gone instead."""
        rows = software_packages.c
        conditions = [rows.agent_id == agent_id, rows.removed_at.is_not(None) if removed else _is_there]
        if name is not None:
            conditions.append(rows.name == name)
        async with self._database.reading() as connection:
            found = await connection.execute(sa.select(software_packages).where(*conditions))
            records = [_record(row) for row in found]
        # Here and not by ORDER BY: each database sorts text by its own locale.
        return sorted(records, key=_order)


def _order(record: PackageRecord) -> tuple[str, datetime, str, str, str]:
    package = record.package
    return package.name, record.first_seen_at, package.version, package.architecture, package.source


_DECIDED = {each.value: each.value for each in (AgentStatus.REVOKED, AgentStatus.QUARANTINED)}


async def _take_chunk(connection: AsyncConnection, agent_id: str, task_id: str, attempt: int) -> None:
    status = await connection.scalar(sa.select(agents.c.status).where(agents.c.id == agent_id))
    if status != AgentStatus.ACTIVE.value:
        raise ScanRefusedError(_DECIDED.get(str(status), "scan_not_yours"))
    locked = await LockedTasks.lock(connection, [task_id])
    held = locked.of(agent_id, task_id)
    if held is None or held.facts.task_type != _TASK_TYPE:
        raise ScanRefusedError("scan_not_yours")
    if isinstance(take(held, SignOfLife(attempt)), Nothing):
        raise ScanRefusedError("scan_not_wanted")
    await locked.write(connection)


def _merge(connection: AsyncConnection) -> sa.Insert:
    was_gone = software_packages.c.removed_at.is_not(None)
    return merge_from(
        connection,
        software_packages,
        _FOUND,
        key=_KEY,
        merge=lambda new: {
            "publisher": new.publisher,
            "installed_at_s": new.installed_at_s,
            "last_seen_at": new.last_seen_at,
            "last_scan": new.last_scan,
            "returned_at": sa.case((was_gone, new.last_seen_at), else_=software_packages.c.returned_at),
            "removed_at": sa.null(),
        },
    )


def _each_once(packages: Sequence[ScannedPackage]) -> list[ScannedPackage]:
    """Return each package once: one statement cannot write a row twice."""
    known = {(each.source, each.name, each.version, each.architecture): each for each in packages}
    return list(known.values())


def _record(row: sa.Row[Any]) -> PackageRecord:
    return PackageRecord(
        package=ScannedPackage(
            row.source, row.name, row.version, row.architecture, row.publisher, row.installed_at_s
        ),
        first_seen_at=from_ms(row.first_seen_at),
        last_seen_at=from_ms(row.last_seen_at),
        removed_at=maybe_from_ms(row.removed_at),
        returned_at=maybe_from_ms(row.returned_at),
    )
