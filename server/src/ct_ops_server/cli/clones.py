"""``ct-ops-server clones``: agents that two hosts speak as, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from ct_ops_server.cli.asking import ask, path_of
from ct_ops_server.cli.output import ago, print_json, table

_SHORT = 13
_NEXT = """\
next: the copy is gone, its data directory deleted   ct-ops-server agent approve {id}
      both hosts shall stay                          ct-ops-server agent split {id}
      the key was stolen                             ct-ops-server agent revoke {id}"""


@click.group()
def clones() -> None:
    """Agents in quarantine, because their data directory or machine was copied."""


@clones.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_clones(*, as_json: bool) -> None:
    """List the agents in quarantine, with what is known of each side."""
    found = ask("GET", path_of("clones"))
    print_json(found) if as_json else click.echo(clones_list(found))


def clones_list(found: Sequence[Mapping[str, Any]], now: datetime | None = None) -> str:
    """Return the agents in quarantine for people: why, who, and what can be done."""
    if not found:
        return "no agent is in quarantine: no copy has shown itself"
    return "\n\n".join(_clone(each, now or datetime.now(UTC)) for each in found)


def _clone(clone: Mapping[str, Any], now: datetime) -> str:
    since = ago(clone["quarantined_at"], now)
    lines = [f"{clone['hostname']} ({clone['id']}), in quarantine since {since}", clone["why"]]
    lines.append(_sides_table(clone["sides"], now))
    if clone["other_sides"]:
        lines.append(f"and {clone['other_sides']} more sides")
    lines.append(_NEXT.format(id=clone["id"]))
    return "\n".join(line for line in lines if line)


def _sides_table(sides: Sequence[Mapping[str, Any]], now: datetime) -> str:
    rows = [
        (
            "original?" if side["likely_original"] else "copy?" if side["alive"] else "before",
            side["address"],
            side["hostname"] or "-",
            _short(side["boot_id"]),
            _short(side["machine_id"]),
            _short(side["process_id"]),
            ",".join(side["mac_addresses"][:2]) or "-",
            ago(side["first_seen_at"], now),
            ago(side["last_seen_at"], now),
            str(side["streams"]),
        )
        for side in sides
    ]
    heads = ("SIDE", "ADDRESS", "HOST", "BOOT", "MACHINE", "PROCESS", "MAC", "FIRST", "LAST", "STREAMS")
    return table(heads, rows)


def _short(text: str) -> str:
    return text[:_SHORT] or "-"


def split_lines(done: Mapping[str, Any]) -> str:
    """Return what became of a split, and what is left to do on each host."""
    kept = done["kept"]
    key = (
        "it is told to make a new key"
        if kept["ours"]
        else "it cannot change its key, so it is served from this machine only"
    )
    lines = [
        f"{done['hostname']} ({done['id']}) is {done['status']}",
        f"  keeps the agent: {_name(kept)}; {key}",
    ]
    return "\n".join(lines + [f"  split off:       {_name(side)}; {_todo(side)}" for side in done["others"]])


def _name(side: Mapping[str, Any]) -> str:
    return f"{side['address']} {side['hostname']}".rstrip()


def _todo(side: Mapping[str, Any]) -> str:
    if side["ours"]:
        return "it makes a key of its own and enrols anew; see: ct-ops-server agent list --status pending"
    return "on that host: stop the agent, delete its data directory, start it with an enrolment token"
