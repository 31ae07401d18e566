"""One JSON object a line, as programs print them. Pure.

::

    {"name": "age_seconds", "value": 42, "unit": "s", "labels": {"job": "nightly"}}
    {"missing": "nightly", "why": "the log cannot be read: add the user ct-ops to the group adm"}

``name`` goes below the collector's own; ``unit``, ``labels`` and ``time`` (Unix seconds) may be left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ct_ops_agent.collector import Missing, Reading, Sample


class _Sample(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    value: float | bool
    unit: str = ""
    labels: dict[str, str] = {}
    time: float | None = None


class _Missing(msgspec.Struct, forbid_unknown_fields=True):
    missing: str
    why: str


def read_json_lines(collector: str, text: str) -> Iterator[Reading]:
    """Yield the readings of a text, and what could not be read."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield _read_line(collector, number, line)


def _read_line(collector: str, number: int, line: str) -> Reading:
    try:
        return _read_missing(line) if '"missing"' in line else _read_sample(collector, line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return Missing(f"line {number}", f"is no reading: {error}")


def _read_missing(line: str) -> Missing:
    found = msgspec.json.decode(line, type=_Missing)
    return Missing(found.missing, found.why)


def _read_sample(collector: str, line: str) -> Sample:
    found = msgspec.json.decode(line, type=_Sample)
    name = found.name.removeprefix(f"{collector}.")
    return Sample(f"{collector}.{name}", float(found.value), found.unit, found.labels, found.time)
