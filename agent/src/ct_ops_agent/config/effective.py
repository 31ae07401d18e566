"""What is in effect, for people to read: each key, its value, and where that comes from. Secrets are not shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from ct_ops_agent.config.collectors import SECTION, CollectorConfig
from ct_ops_agent.config.durations import spell_seconds
from ct_ops_agent.config.schema import KEYS
from ct_ops_agent.control_plane import Tag


class Effective(NamedTuple):
    """One key in effect."""

    key: str
    """Dotted, as in the file."""

    value: str
    origin: str


def effective_keys(values: Mapping[str, object], origins: Mapping[str, str]) -> Iterator[Effective]:
    """Yield every key of the table.

    Args:
        values: as parsed, by dotted path.
        origins: where each comes from.
    """
    for key in KEYS:
        value = values[key.path]
        is_unset = value is None or value == ()
        shown = "-" if is_unset else "(set, not shown)" if key.secret else spell_value(value)
        yield Effective(key.path, shown, origins[key.path].strip(" ()").removeprefix("from "))


def effective_collectors(collectors: CollectorConfig) -> Iterator[Effective]:
    """Yield every collector that runs."""
    for plan in collectors.plans:
        yield Effective(f"{SECTION}.{plan.name}", f"every {spell_seconds(plan.interval_s)}", "it runs")


def spell_value(value: object) -> str:
    """Return a value as people read it."""
    match value:
        case bool():
            return str(value).lower()
        case timedelta():
            return spell_seconds(value.total_seconds())
        case tuple():
            return ", ".join(map(spell_value, value))
        case Tag():
            return f"{value.key}:{value.value}"
        case _:
            return str(value)
