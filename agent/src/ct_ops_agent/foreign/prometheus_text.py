r"""The text format of Prometheus (exposition format 0.0.4), as far as samples go. Pure.

::

    # HELP, TYPE and other comments are skipped.
    node_raid_disks{device="md0",state="failed"} 0
    backup_last_success_seconds 1.7e9 1700000000000

Names become ours: lower case, ``:`` to ``_``, below the collector's own name, which is not said twice
(``backup_age`` of the collector ``backup`` is ``backup.age``). A third column is the time in milliseconds.
Lines that cannot be read are said, and the others taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ct_ops_agent.collector import Missing, Reading, Sample

_LINE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{(?P<labels>.*)\})?\s*(?P<value>\S+)(?:\s+(?P<at>-?\d{1,18}))?"
)
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPED = re.compile(r"\\(.)")


def read_prometheus_text(collector: str, text: str) -> Iterator[Reading]:
    """Yield the samples of a text, and what could not be read.

    Args:
        collector: whose samples they are.
        text: a whole document.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        # The line itself is not repeated: a link in a folder may lead to a file that only the agent may read.
        yield _read_line(collector, stripped) or Missing(f"line {number}", "is no sample")


def sample_name(collector: str, name: str) -> str:
    """Return our name of a metric."""
    ours = name.lower().replace(":", "_").strip("_")
    within = ours.removeprefix(f"{collector}_")
    return f"{collector}.{within or ours}"


def _read_line(collector: str, line: str) -> Sample | None:
    found = _LINE.fullmatch(line)
    labels = _read_labels(found["labels"] or "") if found else None
    if found is None or labels is None:
        return None
    try:
        value = float(found["value"])
    except ValueError:
        return None
    at_unix = int(found["at"]) / 1000 if found["at"] else None
    return Sample(sample_name(collector, found["name"]), value, labels=labels, at_unix=at_unix)


def _read_labels(text: str) -> dict[str, str] | None:
    labels: dict[str, str] = {}
    place = 0
    while place < len(text.rstrip()):
        found = _LABEL.match(text, place)
        if found is None:
            return None
        labels[found[1].lower()] = _ESCAPED.sub(
            lambda escaped: "\n" if escaped[1] == "n" else escaped[1], found[2]
        )
        place = found.end()
    return labels
