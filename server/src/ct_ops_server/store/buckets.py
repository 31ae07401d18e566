"""Buckets in SQL: how samples become a bucket, buckets a coarser one, and how two of one time are added.

A bucket has a mean and no sum: the sum of values near the end of the range is none (PostgreSQL refuses it, SQLite
says infinity), and one agent's absurd value must not end everybody's roll-up (rule 15). So means are made of values
scaled down by a power of two, which changes no digit, and never lie outside of lowest and highest.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ct_ops_server.store.schema import Real

NAMES = ("series_id", "ts_ms", "samples", "lowest", "highest", "mean")

_DOWN, _UP = 2.0**-64, 2.0**64
_NEGLIGIBLE = 1e-200
"""So small that scaling it down would be none of its digits, or an error; beside anything else it is zero."""


def start_in(column: sa.ColumnElement[int], width_ms: int) -> sa.ColumnElement[int]:
    """Return when the bucket of a time begins. The width is no parameter: it has to be the same one in GROUP BY."""
    return column - column % sa.literal_column(str(width_ms), column.type)


def of_samples(source: Any, width_ms: int) -> sa.Select[Any]:
    """Return a select of buckets of a source's samples, without its FROM and WHERE."""
    value = source.c.value
    at = start_in(source.c.ts_ms, width_ms)
    lowest, highest, count = sa.func.min(value), sa.func.max(value), sa.func.count()
    mean = _mean(sa.type_coerce(sa.func.sum(_scaled(value)) / count, Real), lowest, highest)
    return sa.select(
        source.c.series_id,
        at.label("ts_ms"),
        count.label("samples"),
        lowest.label("lowest"),
        highest.label("highest"),
        mean.label("mean"),
    ).group_by(source.c.series_id, at)


def of_buckets(source: Any, width_ms: int) -> sa.Select[Any]:
    """Return a select of coarser buckets of a source's buckets, without its FROM and WHERE."""
    rows = source.c
    at = start_in(rows.ts_ms, width_ms)
    lowest, highest = sa.func.min(rows.lowest), sa.func.max(rows.highest)
    # On PostgreSQL the sum of integers is a NUMERIC, and a float divided by one is refused.
    count = sa.cast(sa.func.sum(rows.samples), rows.samples.type)
    mean = _mean(sa.func.sum(_scaled(rows.mean) * rows.samples) / count, lowest, highest)
    return sa.select(
        rows.series_id,
        at.label("ts_ms"),
        count.label("samples"),
        lowest.label("lowest"),
        highest.label("highest"),
        mean.label("mean"),
    ).group_by(rows.series_id, at)


def replaced(new: Any) -> dict[str, Any]:
    """Return what becomes of a bucket that was made again from everything in it."""
    return {name: new[name] for name in NAMES[2:]}


def added(table: sa.Table, new: Any) -> dict[str, Any]:
    """Return what becomes of a bucket to which another one's samples are added."""
    old = table.c
    count = old.samples + new.samples
    lowest = sa.case((new.lowest < old.lowest, new.lowest), else_=old.lowest)
    highest = sa.case((new.highest > old.highest, new.highest), else_=old.highest)
    total = _scaled(old.mean) * old.samples + _scaled(new.mean) * new.samples
    return {
        "samples": count,
        "lowest": lowest,
        "highest": highest,
        "mean": _mean(total / count, lowest, highest),
    }


def _scaled(value: sa.ColumnElement[float]) -> sa.ColumnElement[float]:
    small = value.between(_literal(-_NEGLIGIBLE), _literal(_NEGLIGIBLE))
    return sa.case((small, _literal(0.0)), else_=value * _literal(_DOWN))


def _mean(
    scaled: sa.ColumnElement[Any], lowest: sa.ColumnElement[float], highest: sa.ColumnElement[float]
) -> sa.ColumnElement[float]:
    """Scale a mean up again; rounding may have carried it past the ends, and past the end of the range."""
    return sa.case(
        (scaled >= _scaled(highest), highest),
        (scaled <= _scaled(lowest), lowest),
        else_=scaled * _literal(_UP),
    )


def _literal(value: float) -> sa.ColumnElement[float]:
    return sa.literal(value, Real)
