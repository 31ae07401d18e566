"""Items that were refused: counted by agent, kind and reason, with what the latest was about.

So what an agent sends can neither block its delivery nor fill the database, and an operator still sees
that, and of what kind, something of its is not stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.delivery import MOST_EXAMPLE_CHARS, RefusedItems
from ct_ops_server.fleet.items import (
    KINDS,
    CheckResult,
    Gap,
    Item,
    QueryResult,
    Sample,
    TaskAccepted,
    TaskProgress,
    TaskResult,
)
from ct_ops_server.store.delivery_tables import item_refusals
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, now_ms
from ct_ops_server.store.upsert import insert_from
from ct_ops_server.store.values import from_ms


@dataclass(frozen=True, slots=True)
class Refused:
    """One refused item."""

    agent_id: str
    kind: str
    reason: str
    example: str


class _Row(Struct):
    agent_id: str
    kind: str
    reason: str
    items: int
    example: str


_refused = row_set(
    "refused", agent_id=sa.Text(), kind=sa.Text(), reason=sa.Text(), items=Integer64, example=sa.Text()
)
_SOURCE = sa.select(
    _refused.c.agent_id,
    _refused.c.kind,
    _refused.c.reason,
    _refused.c["items"],
    now_ms(),
    now_ms(),
    _refused.c.example,
)
_COLUMNS = ("agent_id", "kind", "reason", "items", "first_at", "last_at", "example")


def refused_item(agent_id: str, item: Item, reason: str) -> Refused:
    """Return what is recorded of an item that a writer refused."""
    # The database may be what refuses the item, and for the very text that is shown here.
    shown = (
        character if character.isprintable() else "�" for character in _subject(item)[:MOST_EXAMPLE_CHARS]
    )
    return Refused(agent_id, KINDS[type(item)], reason, "".join(shown))


async def record_refusals(connection: AsyncConnection, refused: Iterable[Refused]) -> None:
    """Add refusals to what is recorded."""
    rows: dict[tuple[str, str, str], _Row] = {}
    for each in refused:
        row = rows.setdefault(
            (each.agent_id, each.kind, each.reason), _Row(each.agent_id, each.kind, each.reason, 0, "")
        )
        row.items, row.example = row.items + 1, each.example
    if not rows:
        return
    statement = insert_from(connection, item_refusals, _COLUMNS, _SOURCE)
    statement = statement.on_conflict_do_update(
        index_elements=["agent_id", "kind", "reason"],
        set_={
            "items": item_refusals.c["items"] + statement.excluded["items"],
            "last_at": statement.excluded.last_at,
            "example": statement.excluded.example,
        },
    )
    await connection.execute(statement, bind_rows("refused", [rows[key] for key in sorted(rows)]))


async def read_refused_items(connection: AsyncConnection, agent_id: str) -> Sequence[RefusedItems]:
    """Return what was refused of an agent, latest first."""
    statement = (
        sa.select(item_refusals)
        .where(item_refusals.c.agent_id == agent_id)
        .order_by(item_refusals.c.last_at.desc(), item_refusals.c.kind, item_refusals.c.reason)
    )
    return [refused_items_from(row) for row in await connection.execute(statement)]


def refused_items_from(row: sa.Row[Any]) -> RefusedItems:
    """Return what a row counts."""
    return RefusedItems(
        kind=row.kind,
        reason=row.reason,
        count=row._mapping["items"],  # noqa: SLF001  the documented way to a column by its name
        first_at=from_ms(row.first_at),
        last_at=from_ms(row.last_at),
        example=row.example,
    )


def _subject(item: Item) -> str:
    match item:
        case Sample(series=subject) | CheckResult(check_id=subject) | QueryResult(query_id=subject):
            return subject
        case TaskAccepted(task_id=subject) | TaskProgress(task_id=subject) | TaskResult(task_id=subject):
            return subject
        case Gap():
            return item.type
