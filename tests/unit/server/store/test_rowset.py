"""Many rows as one bound value, read alike by both databases."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from ct_ops_server.store.opening import Store
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, Real

ROWS = row_set("rows", name=sa.Text(), number=Integer64, share=Real, document=sa.Text())


async def read(store: Store, *rows: dict[str, Any]) -> list[tuple[Any, ...]]:
    statement = sa.select(ROWS.c.name, ROWS.c.number, ROWS.c.share, ROWS.c.document).order_by(ROWS.c.number)
    async with store.database.reading() as connection:
        return [tuple(row) for row in await connection.execute(statement, bind_rows("rows", rows))]


async def test_values_arrive_as_they_were_bound(store: Store) -> None:
    """Text of every script, the largest integers, exact floats and nothing at all."""
    rows = [
        {"name": 'l\'été "quoted" \\ 漢字 🚀\n', "number": -(2**63), "share": 0.1, "document": None},
        {"name": "", "number": 0, "share": 1e-300, "document": ""},
        {"name": "{}", "number": 2**63 - 1, "share": None, "document": "x"},
    ]

    assert [tuple(row.values()) for row in rows] == await read(store, *rows)


async def test_nested_values_arrive_as_json_text(store: Store) -> None:
    """Lists are stored as the documents they were sent as."""
    ((_, _, _, document),) = await read(
        store, {"name": "", "number": 1, "share": 1.0, "document": [{"size": 2**64 - 1}]}
    )

    assert '[{"size":18446744073709551615}]' == document


async def test_no_rows_are_no_rows(store: Store) -> None:
    """An empty group is a table without rows."""
    assert [] == await read(store)


@pytest.mark.parametrize("url", ["sqlite://", "postgresql+asyncpg://"])
def test_the_text_of_a_statement_does_not_depend_on_its_rows(url: str) -> None:
    """One statement with one parameter, prepared once, whatever the size of the group."""
    compiled = sa.select(ROWS.c.name).compile(sa.create_engine(url))

    assert ["rows"] == list(compiled.params)


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\\\x00"])
def test_a_nul_is_refused_for_both_databases(text: str) -> None:
    """PostgreSQL would refuse it; SQLite would cut the string there and say nothing."""
    with pytest.raises(ValueError, match="NUL"):
        bind_rows("rows", [{"name": "harmless"}, {"name": ["nested", text]}])


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000"])
def test_text_that_only_looks_like_a_nul_is_bound(text: str) -> None:
    """A backslash is an ordinary character, also before "u0000"."""
    assert bind_rows("rows", [{"name": text}])


async def test_row_sets_that_differ_only_in_their_columns_are_kept_apart(store: Store) -> None:
    """SQLAlchemy's cache of compiled statements never serves one row set's columns for another's."""
    found = []
    async with store.database.reading() as connection:
        for column, kind in (("a", sa.Text()), ("b", sa.Text()), ("a", Integer64)):
            rows = row_set("rows", **{column: kind})
            statement = sa.select(rows.c[column])
            found.append(await connection.scalar(statement, bind_rows("rows", [{"a": 1, "b": "two"}])))

    assert "two" == found[1]
    assert 1 == found[2]
