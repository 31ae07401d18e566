"""How decisions are shown to people, and what was found wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ct_ops_server.cli.logs import escaped
from ct_ops_server.cli.output import table

if TYPE_CHECKING:
    from ct_ops_server.audit.examination import Report

_SHOWN = 100
_FINDINGS = 100
_LONG = frozenset({"key_id", "authority", "old_key_id", "serial"})
_SHORT = 13
_SUBJECT = 33
_IMPORTANT = ("hostname", "label", "name", "reason", "status", "count", "step")
_FIRST = {name: place for place, name in enumerate(_IMPORTANT)}


def entries_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return decisions as a table, in the order they come."""
    if not entries:
        return "nothing was decided that this asks for"
    headings = ("NO", "WHEN", "WHO", "DID", "TO", "DETAILS")
    return table(headings, [_row(entry) for entry in entries])


def report_lines(report: Report, *, key_known: bool) -> list[str]:
    """Return what was found, in sentences."""
    first = 1 if report.first is None else report.first.seq + 1
    lines = [str(each) for each in report.breaks[:_FINDINGS]]
    if len(report.breaks) > _FINDINGS:
        lines.append(f"and {len(report.breaks) - _FINDINGS} more findings: --json prints all of them")
    if not report.entries:
        lines.append("there is no entry")
    else:
        until = "" if report.last_at_ms is None else f", the last of {_moment(report.last_at_ms)}"
        lines.append(f"{report.entries} entries, from {first} to {report.last.seq}{until}")
    if report.torn:
        lines.append(
            f"{report.torn}: the last line has no end: it is being written, or the file was cut there"
        )
    lines += [
        f"{each.where}: entry {each.seq} announces the key {escaped(each.key)}, and no key from before vouches for it: audit.key was lost or "
        "replaced here, by you or by somebody else"
        for each in report.key_changes
    ]
    if not key_known:
        lines.append("signed heads were not verified: name the server's audit.pub with --key")
    elif report.heads:
        lines.append(f"signed through entry {report.signed_through}: {report.heads} signed head(s) fit")
        if report.signed_through < report.last.seq:
            lines.append(
                "what is behind it is not signed: entries that were cut off at the end cannot be missed"
            )
    else:
        lines.append("there is no signed head: entries that were cut off at the end cannot be missed")
    if report.is_whole:
        lines.append("nothing was changed, removed or moved")
    return lines


def report_view(report: Report, *, key_known: bool) -> dict[str, Any]:
    """Return what was found as an object."""
    return {
        "whole": report.is_whole,
        "entries": report.entries,
        "first": None if report.first is None else report.first.seq + 1,
        "last": report.last.seq,
        "hash": report.last.hash.hex(),
        "heads_verified": key_known,
        "signed_through": report.signed_through,
        "torn": report.torn,
        "key_changes": [
            {"entry": each.seq, "key": each.key, "where": each.where} for each in report.key_changes
        ],
        "findings": [
            {
                "fault": each.fault.value,
                "from": each.seq,
                "to": max(each.seq, each.last),
                "where": each.where,
                "sentence": str(each),
            }
            for each in report.breaks
        ],
    }


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    when = datetime.fromisoformat(entry["at"]).strftime("%Y-%m-%d %H:%M:%S")
    about = [entry["agent"], entry["token"], _cut(entry["subject"], _SUBJECT)]
    what = (entry["actor"], entry["action"], " ".join(filter(None, about)) or "-", _details(entry["details"]))
    # A decision was made fit to be kept; what stands in the database now need not be.
    return (str(entry["seq"]), when, *map(escaped, what))


def _details(details: Mapping[str, Any]) -> str:
    ordered = sorted(details.items(), key=lambda item: (_FIRST.get(item[0], len(_FIRST)), item[0]))
    said = [f"{name}={_plain(name, value)}" for name, value in ordered if value not in ("", [])]
    return _cut(" ".join(said), _SHOWN)


def _plain(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return _cut(str(value), _SHORT) if name in _LONG else str(value)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _moment(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # a number that somebody made up
        return "a time that there is not"
