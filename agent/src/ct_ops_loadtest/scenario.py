"""The scenario file: a run written down, in TOML. Pure but for reading it.

    agents = 2000                  # any option of `run` that belongs to the plan, by its name without the hyphens in front
    ramp = "60s"
    seed = 7

    [[storm]]                      # half of all connections are cut at the same moment, and all come back at once
    at = "2m"
    share = 0.5

    [[outage]]                     # a fifth of the agents is away for half a minute
    at = "4m"
    for = "30s"
    share = 0.2

    [slow]                         # agents on bad lines
    share = 0.05
    bytes-per-second = 200
    read-after = "3s"

Every mistake is named with its key, all at once. Options of the command line win over the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import tomli

from ct_ops_loadtest.plan import Fault, PlanError, Slowness, seconds

_FAULT_KEYS = {"storm": {"at", "share"}, "outage": {"at", "for", "share"}}
_SLOW_KEYS = {"share", "bytes-per-second", "read-after"}


def load_scenario(path: Path) -> dict[str, Any]:
    """Return the fields of a ``Plan`` that the file names.

    Raises:
        PlanError: it cannot be read, or says what nobody understands; with every mistake.
    """
    try:
        document = tomli.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise PlanError(f"{path} cannot be read: {error}") from error
    return parse_scenario(document)


def parse_scenario(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a ``Plan``. Raises ``PlanError`` with every mistake."""
    mistakes: list[str] = []
    fields: dict[str, Any] = {}
    for key, value in document.items():
        if key in _FAULT_KEYS or key == "slow":
            continue
        if key not in _OPTIONS:
            mistakes.append(f"{key}: there is no such option; known are {', '.join(sorted(_OPTIONS))}")
            continue
        name, read = _OPTIONS[key]
        _try(mistakes, key, lambda name=name, read=read, value=value: fields.update({name: read(value)}))  # type: ignore[misc] # called at once
    _try(mistakes, "slow", lambda: fields.update(_slow(document)))
    faults: list[Fault] = []
    for kind in _FAULT_KEYS:
        _try(mistakes, kind, lambda kind=kind: faults.extend(_faults(document, kind)))  # type: ignore[misc] # called at once
    if faults:
        fields["faults"] = tuple(faults)
    if mistakes:
        raise PlanError("; ".join(mistakes))
    return fields


def _try(mistakes: list[str], key: str, read: Callable[[], None]) -> None:
    try:
        read()
    except PlanError as error:
        mistakes.append(f"{key}: {error}")


def _slow(document: Mapping[str, Any]) -> dict[str, Slowness]:
    if "slow" not in document:
        return {}
    table = _table(document["slow"], _SLOW_KEYS)
    slow = Slowness(
        _share(table.get("share")),
        _number(table.get("bytes-per-second", 0)),
        _duration(table.get("read-after", 0)),
    )
    return {"slow": slow}


def _faults(document: Mapping[str, Any], kind: str) -> Iterator[Fault]:
    tables = document.get(kind, [])
    if not isinstance(tables, list):
        raise PlanError(f"write [[{kind}]], for there may be several")
    for entry in tables:
        table = _table(entry, _FAULT_KEYS[kind])
        if "at" not in table or (kind == "outage" and "for" not in table):
            raise PlanError("when (at) and, for an outage, how long (for) are missing")
        sort: Literal["storm", "outage"] = "storm" if kind == "storm" else "outage"
        yield Fault(
            sort, _duration(table["at"]), _share(table.get("share", 1.0)), _duration(table.get("for", 0))
        )


def _table(value: object, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise PlanError("is no table")
    if unknown := sorted(value.keys() - known):
        raise PlanError(f"has no {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return value


def _duration(value: object) -> float:
    if isinstance(value, str):
        return seconds(value)
    return _number(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise PlanError(f"{value!r} is no number of at least 0")
    return float(value)


def _share(value: object) -> float:
    if (share := _number(value)) > 1:
        raise PlanError(f"a share is at most 1, not {value!r}")
    return share


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PlanError(f"{value!r} is no whole number of at least 1")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise PlanError(f"{value!r} is neither true nor false")
    return value


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise PlanError(f"{value!r} is no text")
    return value


_OPTIONS: dict[str, tuple[str, Callable[[object], object]]] = {
    "agents": ("agents", _count),
    "ramp": ("ramp_s", _duration),
    "duration": ("duration_s", _duration),
    "heartbeat-interval": ("interval_s", _duration),
    "conn-fanout": ("fanout", _count),
    "registration-concurrency": ("concurrency", _count),
    "run-id": ("run_id", _word),
    "hostname-prefix": ("hostname_prefix", _word),
    "seed": ("seed", _count),
    "simulate-checks": ("simulate_checks", _flag),
    "simulate-tasks": ("simulate_tasks", _flag),
    "simulate-inventory": ("simulate_inventory", _flag),
    "check-failure-rate": ("check_failure_rate", _share),
    "metrics-jitter": ("metrics_jitter", _share),
}
