"""Why delivered items are refused, in words: for ``agent show`` and the documentation.

Reasons are given where items are looked at: ``edge.items`` and the item writers of ``store``.
"""

from __future__ import annotations

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    "malformed": "it is no item: an id, a series, a value or a status that cannot be. The agent, or a collector of "
    "its operator's, is at fault",
    "time_out_of_range": "its time lies before the year 2000 or more than a day ahead: look at the host's clock",
    "from_the_future": "its time lies more than a day ahead of the database's clock",
    "series_limit": "the agent has more series than `INGEST_SERIES_PER_AGENT` allows: look with `ct-ops-server samples` "
    "which label has so many values",
    "too_many_items": "its batch holds more items than any agent of ours sends",
    "not_storable": "the database refuses it, and nobody knew before: the server's log names the error; please report it",
    "unsupported": "it is of a kind that this server does not know: the agent is newer",
    "not_yours": "it names a check, query or task of another agent",
    "unknown_check": "it names a check that never was",
    "removed_check": "its check was removed meanwhile; that is nobody's fault",
    "wrong_type": "it says another type than its task has",
    "unknown_attempt": "it names an attempt of its task that was never made",
    "other_attempt": "it comes late, of an attempt that another one has followed; that is nobody's fault",
    "task_ended": "its task is over; that is nobody's fault",
}


def meaning(reason: str) -> str:
    """Return a sentence for operators; nothing for a reason that has none."""
    return MEANINGS.get(reason, "")


def reasons_markdown() -> str:
    """Return the table for the documentation."""
    rows = ["| reason | means |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{reason}` | {text} |" for reason, text in MEANINGS.items())])
