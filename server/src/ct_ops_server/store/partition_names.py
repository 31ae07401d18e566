"""What partitions are called: their table, and the time at which they end; or that they hold everything else."""

from __future__ import annotations

import re

PARTITIONED = ("samples", "samples_1m", "samples_1h", "samples_1d")

PATTERNS = tuple(f"{table}_{kind}" for table in PARTITIONED for kind in ("default", "to_*", "before_*"))
"""For PostgreSQL's own tools: copying a partitioned table copies none of its rows."""

_NAME = re.compile(rf"({'|'.join(PARTITIONED)})_(?:(default)|(?:to|before)_(\d+))")


def default_of(table: str) -> str:
    """Return the name of the partition for what lies in no other one."""
    return f"{table}_default"


def partition_to(table: str, end_ms: int) -> str:
    """Return the name of the partition that ends then."""
    return f"{table}_to_{end_ms}"


def everything_before(table: str, end_ms: int) -> str:
    """Return the name of the partition that ends then and has no beginning: a table from before partitions."""
    return f"{table}_before_{end_ms}"


def is_partition(name: str) -> bool:
    """Tell whether a table is a partition."""
    return _NAME.fullmatch(name) is not None


def end_of(name: str) -> int | None:
    """Return when a partition ends; None: it is the default one, or none."""
    match = _NAME.fullmatch(name)
    return int(match[3]) if match and match[3] else None


def is_before_everything(name: str) -> bool:
    """Tell whether a partition has no beginning."""
    return end_of(name) is not None and "_before_" in name
