"""Which server CAs agents believe: what they report, and how much of the fleet believes one.

A row is written when it says something new. An agent without a row never reported: it is an existing one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.following import NAMED, AnchorSource, Believed, Following
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.anchor_tables import agent_anchors
from ct_ops_server.store.database import Database
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import agents, now_ms
from ct_ops_server.store.upsert import insert_from
from ct_ops_server.store.writer import GroupWriter

_reported = row_set("reported", agent_id=sa.Text(), source=sa.Text(), anchors=sa.Text())
_ACTIVE = agents.c.status == AgentStatus.ACTIVE.value
_IS_EXISTING = agent_anchors.c.agent_id.is_(None)
_FLEET = agents.outerjoin(agent_anchors, agent_anchors.c.agent_id == agents.c.id)


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _believes(any_of: Sequence[bytes]) -> sa.ColumnElement[bool]:
    """Return the condition that an agent reported one of these; one that never reported believes none."""
    each = (agent_anchors.c.anchors.contains(sha256.hex()) for sha256 in any_of)
    return sa.func.coalesce(sa.or_(sa.false(), *each), sa.false())


def _counts(believes: sa.ColumnElement[bool]) -> sa.Select[int, int, int, int]:
    is_learning = agent_anchors.c.source == AnchorSource.LEARNT.value
    is_configured = sa.and_(sa.not_(believes), sa.not_(_IS_EXISTING), sa.not_(is_learning))
    return (
        sa.select(
            sa.func.count().label("agents"),
            _count(believes).label("following"),
            _count(_IS_EXISTING).label("existing"),
            _count(is_configured).label("configured"),
        )
        .select_from(_FLEET)
        .where(_ACTIVE)
    )


def _names(believes: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return (
        sa.select(agents.c.hostname)
        .select_from(_FLEET)
        .where(_ACTIVE, sa.not_(believes))
        .order_by(_IS_EXISTING.desc(), agents.c.hostname, agents.c.id)
        .limit(NAMED)
    )


class SqlAnchorStore:
    """``fleet.anchor_log.AnchorStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def record(self, reports: Mapping[str, Believed]) -> None:
        """Store what agents reported; of an agent that is gone nothing is stored."""
        rows = bind_rows("reported", [_row(agent_id, reports[agent_id]) for agent_id in sorted(reports)])

        async def record(connection: AsyncConnection) -> None:
            await connection.execute(_upsert(connection), rows)

        await self._writer.run(record)

    async def following(self, *any_of: bytes) -> Following:
        """Return how much of the fleet believes one of these server CAs."""
        believes = _believes(any_of)
        async with self._database.reading() as connection:
            row = (await connection.execute(_counts(believes))).one()
            names: Sequence[str] = list(await connection.scalars(_names(believes)))
        return Following(row.agents, row.following, row.existing, row.configured, tuple(names))


def _row(agent_id: str, report: Believed) -> dict[str, str]:
    anchors = " ".join(sorted(each.hex() for each in report.anchors))
    return {"agent_id": agent_id, "source": report.source.value, "anchors": anchors}


def _upsert(connection: AsyncConnection) -> Any:
    source = sa.select(*_reported.c, now_ms()).join_from(
        _reported, agents, agents.c.id == _reported.c.agent_id
    )
    insert = insert_from(connection, agent_anchors, ("agent_id", "source", "anchors", "reported_at"), source)
    new = insert.excluded
    is_news = sa.or_(new.source != agent_anchors.c.source, new.anchors != agent_anchors.c.anchors)
    return insert.on_conflict_do_update(
        index_elements=["agent_id"],
        set_={"source": new.source, "anchors": new.anchors, "reported_at": new.reported_at},
        where=is_news,
    )
