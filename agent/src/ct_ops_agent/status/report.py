"""What the status file says: values, and their form in JSON.

Times are seconds since 1970 inside and RFC 3339 in UTC in the file. A field that is not known is
``null``. Whoever reads a file of another version gets what both know: unknown fields are ignored,
missing ones are "not known".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """What the daemon is at."""

    STARTING = "starting"
    ENROLLING = "enrolling"
    PENDING = "pending"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting to reconnect"
    REFUSED = "refused"


@dataclass(frozen=True)
class Report:
    """How an agent is, at `written_at`."""

    pid: int
    version: str
    data_dir: str
    state: State
    since: float
    """When the state began."""

    written_at: float
    hostname: str = ""
    heartbeat_interval_s: float = 30.0
    agent_id: str = ""
    key_id: str = ""
    server: str = ""
    features: tuple[str, ...] = ()
    """Abilities that the server named; an existing server has none."""

    server_cas: tuple[str, ...] = ()
    """The server CAs that are believed: the beginnings of their SHA-256; of a whole bundle of roots nothing."""

    acknowledged_at: float | None = None
    next_try_at: float | None = None
    leaf_not_after: float | None = None
    agent_token_expires_at: float | None = None
    clock_skew_s: float | None = None
    """This host's clock minus the server's."""

    problem: str = ""
    """One sentence: what is wrong, and what to do."""

    delivery: str = ""
    """How results travel; empty: this process has no outbox."""

    delivered_at: float | None = None
    """When the server last acknowledged a batch."""

    delivered_batches: int = 0
    """The number it acknowledged."""

    outbox_bytes: int = 0
    outbox_max_bytes: int = 0
    outbox_results: int = 0
    outbox_samples: int = 0
    outbox_batches: int = 0
    outbox_oldest: float | None = None
    outbox_problem: str = ""
    """Why it cannot be written to the disk; empty: it can."""

    dropped: tuple[str, ...] = ()
    """What was ever dropped or refused here, a line for each type and reason."""

    collector_problems: tuple[str, ...] = ()
    """A line for each collector that does not work."""


_TIMES = frozenset(
    {
        "since",
        "written_at",
        "acknowledged_at",
        "next_try_at",
        "leaf_not_after",
        "agent_token_expires_at",
        "delivered_at",
        "outbox_oldest",
    }
)


_LISTS = frozenset({"features", "dropped", "collector_problems", "server_cas"})
_NUMBERS = frozenset(
    {
        "pid",
        "delivered_batches",
        "outbox_bytes",
        "outbox_max_bytes",
        "outbox_results",
        "outbox_samples",
        "outbox_batches",
    }
)
_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(_NUMBERS, int),
    **dict.fromkeys(_LISTS, tuple),
    "since": int | float,
    "written_at": int | float,
    "heartbeat_interval_s": int | float,
    "clock_skew_s": int | float | None,
} | dict.fromkeys(_TIMES - {"since", "written_at"}, int | float | None)
"""Everything else is text."""


def to_document(report: Report) -> dict[str, Any]:
    """Return the JSON object of a report."""
    document = {field.name: getattr(report, field.name) for field in fields(report)}
    times = {name: format_time(document[name]) for name in _TIMES}
    lists = {name: list(document[name]) for name in _LISTS}
    return document | times | lists | {"state": report.state.value}


def to_json(report: Report) -> str:
    """Return the text of the file."""
    return json.dumps(to_document(report), indent=2) + "\n"


def parse_report(text: str) -> Report | None:
    """Read a status file; ``None`` when it is none, for example cut off or of something else."""
    try:
        document = json.loads(text)
        known = {field.name: document[field.name] for field in fields(Report) if field.name in document}
        times = {name: parse_time(known[name]) for name in _TIMES & known.keys()}
        lists = {name: tuple(map(str, known[name])) for name in _LISTS & known.keys()}
        values = known | times | lists | {"state": State(known["state"])}
        return Report(**values) if _are_sound(values) else None
    except (KeyError, TypeError, ValueError):
        return None


def format_time(unix: float | None) -> str | None:
    """Return a time in RFC 3339, UTC, in whole seconds."""
    if unix is None:
        return None
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> float | None:
    """Read a time in RFC 3339. Raises ``ValueError`` and ``TypeError`` for anything else."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _are_sound(values: Mapping[str, object]) -> bool:
    """Whether each value is of its field's kind: the file is read by root and may be somebody else's."""
    return all(isinstance(value, _KINDS.get(name, str)) for name, value in values.items())
