"""Samples as tables for people: a line a sample, a column a series while they fit, else one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ct_ops_server.cli.output import ago, table

_MOST_COLUMNS = 5
_SPANS = {"1m": "minute", "1h": "hour", "1d": "day"}
_BINARY_STEPS = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
_STEP = 1024
_LARGE = 1e15


def series_table(found: Sequence[Mapping[str, Any]], agent_name: str, now: datetime | None = None) -> str:
    """Return everything an agent has, with its latest values."""
    if not found:
        return f"{agent_name} has delivered no samples: see `ct-ops-server agent show {agent_name}` for its collectors"
    moment = now or datetime.now(UTC)
    rows = [
        (
            each["series"],
            "-" if each["latest_value"] is None else readable(each["latest_value"], each["unit"]),
            ago(each["latest_at"], moment),
        )
        for each in found
    ]
    return table(("SERIES", "LATEST", "WHEN"), rows)


def curves_text(found: Mapping[str, Any], since: str) -> str:
    """Return series over some time: side by side when they are few and share a name, else one by one."""
    curves = [curve for curve in found["series"] if curve["points"]]
    if not curves:
        return f"nothing since {since}: try an earlier --since"
    lines = [_side_by_side(curves)] if len(curves) <= _MOST_COLUMNS else [_below(curve) for curve in curves]
    if (rolled := _SPANS.get(found["resolution"])) is not None:
        lines.append(
            f"Means by the {rolled}; --json has lowest, highest and how many; --resolution raw as they came."
        )
    if found["is_cut"]:
        lines.append("There is more: these are the newest; use a later --since or an earlier --until.")
    return "\n\n".join(lines)


def readable(value: float, unit: str) -> str:
    """Return a value as people write it: bytes in steps of 1,024, no digits that say nothing."""
    if unit in {"bytes", "bytes/s"}:
        return _bytes(value, unit)
    number = f"{value:.0f}" if value == int(value) and abs(value) < _LARGE else f"{value:.4g}"
    return f"{number} {_SIGNS.get(unit, unit)}".rstrip()


_SIGNS = {"percent": "%", "celsius": "°C"}


def _bytes(value: float, unit: str) -> str:
    step = 0
    while abs(value) >= _STEP and step < len(_BINARY_STEPS) - 1:
        value /= _STEP
        step += 1
    number = f"{value:.1f}" if step else f"{value:.0f}"
    return f"{number} {_BINARY_STEPS[step]}B{unit.removeprefix('bytes')}"


def _side_by_side(curves: Sequence[Mapping[str, Any]]) -> str:
    values = [
        {point["at"]: readable(point["value"], curve["unit"]) for point in curve["points"]}
        for curve in curves
    ]
    times = sorted({at for of_curve in values for at in of_curve})
    rows = [(at, *(of_curve.get(at, "-") for of_curve in values)) for at in times]
    return table(("TIME", *(curve["series"] for curve in curves)), rows)


def _below(curve: Mapping[str, Any]) -> str:
    rows = [(point["at"], readable(point["value"], curve["unit"])) for point in curve["points"]]
    return f"{curve['series']}\n{table(('TIME', 'VALUE'), rows)}"
