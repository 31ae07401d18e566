"""Many rows as one bound value: a JSON document that the database reads as a table.

A group of writes becomes one statement with one parameter, whatever its size, on both databases::

    rows = row_set("rows", agent_id=sa.Text(), generation=Integer64)
    update(agents).where(agents.c.id == rows.c.agent_id, …).values(…)
    await connection.execute(statement, bind_rows("rows", [{"agent_id": …}, …]))

compiles to ``json_to_recordset`` on PostgreSQL and to ``json_each`` on SQLite. The text of the
statement never depends on the number of rows, so it is prepared once.

A value that JSON carries and the database does not take (an integer of 2^63) is the database's to
refuse: the writer finds the culprit. A NUL is refused here, because SQLite would cut the string there
and say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

# The escape of a NUL: after an even number of backslashes, for those are escaped backslashes.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_encoder = msgspec.json.Encoder()


class _Rows(FunctionElement[Any]):
    """The document, then the columns to read from it: all of them clauses, so that SQLAlchemy caches."""

    inherit_cache = True


def row_set(name: str, /, **columns: TypeEngine[Any]) -> TableValuedAlias:
    """Return a table-valued source of ``columns``, whose rows are bound under ``name``."""
    typed = [sa.column(column, kind) for column, kind in columns.items()]
    return _Rows(sa.bindparam(name, type_=sa.Text()), *typed).table_valued(*typed, name=name)


def bind_rows(name: str, rows: Sequence[object]) -> dict[str, str]:
    """Encode ``rows`` (objects or dicts with the columns as fields) as the parameter ``name``.

    Raises:
        ValueError: a string holds a NUL or half a character.
    """
    document = _encoder.encode(rows)
    if b"\\u0000" in document and _NUL.search(document):
        raise ValueError("a string with a NUL cannot be stored")
    return {name: document.decode()}


@compiles(_Rows, "postgresql")
def _postgres_rows(element: _Rows, compiler: SQLCompiler, **options: Any) -> str:
    document, *columns = element.clauses
    types = compiler.dialect.type_compiler_instance
    shape = ", ".join(f"{_name(column)} {types.process(column.type)}" for column in columns)
    text = compiler.process(document, **options)
    rows = f"json_to_recordset(CAST({text} AS JSON)) AS document({shape})"
    return f"(SELECT * FROM {rows})"  # noqa: S608 - names and types are ours, the values are bound


@compiles(_Rows, "sqlite")
def _sqlite_rows(element: _Rows, compiler: SQLCompiler, **options: Any) -> str:
    document, *columns = element.clauses
    shape = ", ".join(f"json_extract(value, '$.{_name(column)}') AS {_name(column)}" for column in columns)
    text = compiler.process(document, **options)
    return f"(SELECT {shape} FROM json_each({text}))"  # noqa: S608 - names are ours, the values are bound


def _name(column: sa.ColumnElement[Any]) -> str:
    assert isinstance(column, sa.ColumnClause)
    assert column.name.isidentifier()
    return column.name
