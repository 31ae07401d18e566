"""Queries and their answers: ``fleet.work_ports.QueryStore``, and who stores ``QueryResult`` items.

A query's push is not written down: a stream knows what it was told, and after two minutes nobody waits
for the answer any more. The first answer is kept, also a late one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.decisions import query_asked
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.items import OpenPort, Owned, QueryResult, ServiceState
from ct_ops_server.fleet.orders import MOST_OPEN_QUERIES, NewQuery, QueryRecord
from ct_ops_server.fleet.work import AskedQuery
from ct_ops_server.fleet.work_ports import TOPIC, TooManyOpenError
from ct_ops_server.store.audit import append
from ct_ops_server.store.database import Database
from ct_ops_server.store.listening import notify
from ct_ops_server.store.live_streams import bind_streams, by_agent, is_current, streams, with_something
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import agents, now_ms
from ct_ops_server.store.values import from_ms, maybe_from_ms
from ct_ops_server.store.work_tables import queries
from ct_ops_server.store.writer import GroupWriter

_MILLISECOND = timedelta(milliseconds=1)
_KEPT = timedelta(days=1)

_is_open = sa.and_(queries.c.answered_at.is_(None), queries.c.expires_at > now_ms())
_asked = (
    sa.select(streams.c.agent_id, queries.c.id, queries.c.query_type, queries.c.created_at)
    .select_from(streams)
    .join(agents, is_current)
    .join(queries, queries.c.agent_id == agents.c.id)
    .where(_is_open)
    .order_by(queries.c.created_at, queries.c.id)
)
_BUSY = sa.select(queries.c.agent_id).where(_is_open).distinct()
_DUE = _asked.add_columns((now_ms() - queries.c.created_at).label("age_ms"))

_answers = row_set(
    "answers", query_id=sa.Text(), agent_id=sa.Text(), query_type=sa.Text(), error=sa.Text(), answer=sa.Text()
)
_ANSWER = (
    queries.update()
    .where(
        queries.c.id == _answers.c.query_id,
        queries.c.agent_id == _answers.c.agent_id,
        queries.c.query_type == _answers.c.query_type,
        queries.c.answered_at.is_(None),
    )
    .values(answered_at=now_ms(), error=_answers.c.error, answer=_answers.c.answer)
    .returning(queries.c.id)
)
_FIND = sa.select(queries.c.id, queries.c.agent_id, queries.c.query_type).where(
    queries.c.id.in_(sa.bindparam("ids", expanding=True))
)


class Answer(msgspec.Struct, frozen=True):
    """What a query found, as it lies in the table."""

    ports: tuple[OpenPort, ...] = ()
    services: tuple[ServiceState, ...] = ()


_answer = msgspec.json.Decoder(Answer)


class SqlQueryStore:
    """``fleet.work_ports.QueryStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def ask(self, query: NewQuery) -> None:
        """Keep a query; hint every process at it with the commit."""

        async def keep(connection: AsyncConnection) -> None:
            await _make_room(connection, query.agent_id)
            await connection.execute(queries.insert().values(_row(query)))
            await append(connection, [query_asked(query)])
            await notify(connection, TOPIC)

        await self._writer.run(keep)

    async def find_query(self, query_id: str) -> QueryRecord | None:
        """Return it with its answer, if there is one."""
        statement = sa.select(queries, (queries.c.expires_at <= now_ms()).label("is_overdue"))
        async with self._database.reading() as connection:
            row = (await connection.execute(statement.where(queries.c.id == query_id))).one_or_none()
        return None if row is None else _record(row)

    async def due_queries(self, live: Sequence[LiveStream]) -> Mapping[LiveStream, tuple[AskedQuery, ...]]:
        """Return the queries without an answer whose time is not over, of current streams only."""
        found = defaultdict[LiveStream, tuple[AskedQuery, ...]](tuple)
        youngest = by_agent(live)
        async with self._database.reading() as connection:
            asked = await with_something(connection, youngest, _BUSY)
            if not asked:
                return found
            for row in await connection.execute(_DUE, bind_streams(asked)):
                age = max(row.age_ms, 0) * _MILLISECOND
                found[youngest[row.agent_id]] += (AskedQuery(row.id, row.query_type, age),)
        return found


class QueryResultWriter:
    """Keeps the first answer to each query of the answering agent (``store.items.ItemWriter``)."""

    async def apply(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        """Store them; return for each why it was refused."""
        first = {_key(each): each for each in reversed(owned)}
        rows = [_answer_row(each) for each in first.values()]
        await connection.execute(_ANSWER, bind_rows("answers", rows))
        ids = sorted({_result(each).query_id for each in owned})
        known = {row.id: row for row in await connection.execute(_FIND, {"ids": ids})}
        return [_why_refused(each, known.get(_result(each).query_id)) for each in owned]


def _why_refused(owned: Owned, row: Any) -> str | None:
    """Return None when it was stored, now or before. Somebody else's query and none look the same."""
    if row is None or row.agent_id != owned.agent_id:
        return "not_yours"
    return None if row.query_type == _result(owned).query_type else "wrong_type"


def _result(owned: Owned) -> QueryResult:
    assert isinstance(owned.item, QueryResult)
    return owned.item


def _key(owned: Owned) -> tuple[str, str, str]:
    result = _result(owned)
    return owned.agent_id, result.query_id, result.query_type


def _answer_row(owned: Owned) -> dict[str, str]:
    result = _result(owned)
    answer = msgspec.json.encode(Answer(result.ports, result.services)).decode()
    return {
        "query_id": result.query_id,
        "agent_id": owned.agent_id,
        "query_type": result.query_type,
        "error": result.error,
        "answer": answer,
    }


async def _make_room(connection: AsyncConnection, agent_id: str) -> None:
    """Forget this agent's old queries. An agent that cannot answer does not collect questions."""
    oldest = now_ms() - _KEPT // _MILLISECOND
    old = queries.delete().where(queries.c.agent_id == agent_id, queries.c.created_at < oldest)
    await connection.execute(old)
    count = sa.select(sa.func.count()).where(queries.c.agent_id == agent_id, _is_open)
    if (await connection.scalar(count) or 0) >= MOST_OPEN_QUERIES:
        raise TooManyOpenError


def _row(query: NewQuery) -> dict[str, Any]:
    return {
        "id": query.id,
        "agent_id": query.agent_id,
        "query_type": query.query_type,
        "created_at": now_ms(),
        "created_by": query.actor,
        "expires_at": now_ms() + query.lifetime // _MILLISECOND,
    }


def _record(row: sa.Row[Any]) -> QueryRecord:
    answer = Answer() if row.answer is None else _answer.decode(row.answer)
    return QueryRecord(
        id=row.id,
        agent_id=row.agent_id,
        query_type=row.query_type,
        created_at=from_ms(row.created_at),
        created_by=row.created_by,
        expires_at=from_ms(row.expires_at),
        is_overdue=bool(row.is_overdue),
        answered_at=maybe_from_ms(row.answered_at),
        error=row.error or "",
        ports=answer.ports,
        services=answer.services,
    )
