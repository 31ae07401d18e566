r"""The canonical text of a series: its name and labels, one spelling for each.

``disk.used_bytes{mount="/srv",type="ext4"}``: labels sorted by name, values with ``\\``, ``\"`` and
``\n`` escaped, no braces without labels. One spelling, because the text is what samples are known by: by
agents that resend, and by the server that stores each sample once.

Names are lower-case words with dots between (`NAME`), labels are words (`LABEL`), at most `MAX_CHARS`
altogether.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")
LABEL = re.compile(r"[a-z_][a-z0-9_]*")
MAX_CHARS = 1_024
_PAIR = re.compile(r'([a-z_][a-z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
_ESCAPED = re.compile(r'\\([\\"n])')


class SeriesError(ValueError):
    """This is no series. The text says why, for the author of the collector."""


def series_text(name: str, labels: Mapping[str, str]) -> str:
    """Return the canonical text.

    Raises:
        SeriesError: the name, a label or the whole is not allowed.
    """
    if NAME.fullmatch(name) is None:
        raise SeriesError(f"{name!r} is no name: lower-case words with dots between, like memory.total_bytes")
    for label in labels:
        if LABEL.fullmatch(label) is None:
            raise SeriesError(f"{label!r} is no label of {name}: a lower-case word is")
    pairs = ",".join(f'{label}="{_escape(labels[label])}"' for label in sorted(labels))
    text = f"{name}{{{pairs}}}" if pairs else name
    if len(text) > MAX_CHARS:
        raise SeriesError(f"the labels of {name} are longer than {MAX_CHARS} characters altogether")
    return text


def parse_series(text: str) -> tuple[str, dict[str, str]]:
    """Return name and labels of a canonical text.

    Raises:
        SeriesError: it is none: of no such form, too long, or another spelling of the same series.
    """
    name, brace, rest = text.partition("{")
    labels: dict[str, str] = {}
    if brace:
        if not rest.endswith("}"):
            raise SeriesError("a series ends with its labels")
        labels = _parse_labels(rest[:-1])
    if series_text(name, labels) != text:
        raise SeriesError("not the canonical spelling of a series")
    return name, labels


def _parse_labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    place = 0
    while place < len(text):
        found = _PAIR.match(text, place)
        if found is None:
            raise SeriesError("the labels of a series cannot be read")
        labels[found[1]] = _ESCAPED.sub(lambda escaped: "\n" if escaped[1] == "n" else escaped[1], found[2])
        place = found.end()
    return labels


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
