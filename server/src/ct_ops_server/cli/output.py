"""What commands print: a table or lines for people, one JSON array or object for programs.

Everything that came from an agent was cleaned of control characters before it was stored, so it cannot
move a terminal's cursor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


def print_json(value: object) -> None:
    """Print one array or object."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under headings, each column as wide as its longest entry."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (headings, *rows)
    )
    return "\n".join(line.rstrip() for line in lines)


def ago(moment: str | None, now: datetime) -> str:
    """Return an RFC 3339 moment as ``12s ago``; ``never`` for None."""
    if moment is None:
        return "never"
    seconds = max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))
    for unit_s, letter in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "m")):
        if seconds >= 2 * unit_s:
            return f"{seconds // unit_s}{letter} ago"
    return f"{seconds}s ago"


def agents_table(agents: Sequence[Mapping[str, Any]], now: datetime | None = None) -> str:
    """Return the agents as a table with their latest vitals."""
    if not agents:
        return "no agents yet: make a token with `ct-ops-server token create --label …` and enrol a host"
    moment = now or datetime.now(UTC)
    headings = ("ID", "HOSTNAME", "STATUS", "ONLINE", "LAST SEEN", "CPU", "MEM", "DISK", "OS")
    return table(headings, [_agent_row(agent, moment) for agent in agents])


def tokens_table(tokens: Sequence[Mapping[str, Any]]) -> str:
    """Return enrolment tokens as a table."""
    if not tokens:
        return "no tokens yet: make one with `ct-ops-server token create --label …`"
    headings = ("ID", "LABEL", "STATE", "USES", "EXPIRES", "APPROVES", "CREATED BY")
    rows = [
        (
            token["id"],
            token["label"],
            token["state"],
            f"{token['uses']} of {token['max_uses'] or 'any'}",
            token["expires_at"] or "never",
            "by itself" if token["auto_approve"] else "operator",
            token["created_by"],
        )
        for token in tokens
    ]
    return table(headings, rows)


def refusals_table(refusals: Sequence[Mapping[str, Any]], now: datetime | None = None) -> str:
    """Return who was not admitted as a table, and below it what to do for each reason."""
    if not refusals:
        return "nobody was refused"
    moment = now or datetime.now(UTC)
    headings = ("LAST", "TIMES", "HOSTNAME", "ADDRESS", "REASON", "TOKEN")
    rows = [
        (
            ago(refusal["last_at"], moment),
            str(refusal["count"]),
            refusal["hostname"],
            refusal["observed_address"],
            refusal["reason"],
            refusal["token_id"] or "-",
        )
        for refusal in refusals
    ]
    advice = {refusal["reason"]: refusal["what_to_do"] for refusal in refusals}
    return "\n".join([table(headings, rows), "", *(f"{reason}: {text}" for reason, text in advice.items())])


def token_sheet(sheet: Mapping[str, Any], now: datetime | None = None) -> str:
    """Return a token, whom it admitted, and whom it did not: lines, and a table for each."""
    moment = now or datetime.now(UTC)
    blocks = [agent_lines({name: value for name, value in sheet.items() if name not in _LISTS})]
    if sheet["admitted"]:
        blocks.append("Admitted:\n" + _admitted_table(sheet["admitted"], moment))
    if sheet["refused"]:
        blocks.append("Not admitted:\n" + refusals_table(sheet["refused"], moment))
    return "\n\n".join(blocks)


def _admitted_table(agents: Sequence[Mapping[str, Any]], now: datetime) -> str:
    rows = [
        (agent["id"], agent["hostname"], agent["status"], ago(agent["admitted_at"], now)) for agent in agents
    ]
    return table(("ID", "HOSTNAME", "STATUS", "ADMITTED"), rows)


def deleted_table(agents: Sequence[Mapping[str, Any]]) -> str:
    """Return what is kept of deleted agents as a table."""
    if not agents:
        return "no agent was ever deleted"
    headings = ("ID", "HOSTNAME", "WAS", "DELETED", "BY", "REASON")
    columns = ("id", "hostname", "status", "deleted_at", "deleted_by", "reason")
    return table(headings, [tuple(agent[column] or "-" for column in columns) for agent in agents])


def _agent_row(agent: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    vitals = agent["vitals"]
    shares = ("cpu_percent", "memory_percent", "disk_percent")
    return (
        agent["id"],
        agent["hostname"],
        agent["status"],
        _presence(agent),
        ago(agent["last_seen_at"], now),
        *("-" if vitals is None else f"{vitals[share]:.0f} %" for share in shares),
        "-" if vitals is None else vitals["os_version"],
    )


def _presence(agent: Mapping[str, Any]) -> str:
    if not agent["online"]:
        return "no"
    return "degraded" if agent.get("degraded") else "yes"


def agent_lines(agent: Mapping[str, Any]) -> str:
    """Return everything about one agent, a line each."""
    lines = [
        f"{name.replace('_', ' '):<18}{_plain(value)}" for name, value in agent.items() if name not in _LISTS
    ]
    for name in _LISTS:
        lines += [f"{name.rstrip('s'):<18}{_plain(entry)}" for entry in agent.get(name) or ()]
    return "\n".join(lines)


_LISTS = ("disks", "interfaces", "history", "admitted", "refused")


def _plain(value: object) -> str:
    if value in (None, "", {}, []):
        return "-"
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{key}={_plain(entry)}" for key, entry in value.items())
        case list():
            return " ".join(map(str, value))
        case float():
            return f"{value:.1f}"
        case _:
            return str(value)
