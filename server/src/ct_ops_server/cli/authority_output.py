"""What ``ct-ops-server ca`` prints for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ct_ops_server.cli.output import ago, table

_WARN_DAYS = 180
_NAME = 16


def overview_text(overview: Mapping[str, Any], now: datetime | None = None) -> str:
    """Return every agent CA and token key as tables, then what wants attention."""
    moment = now or datetime.now(UTC)
    authorities = table(
        ("AGENT CA", "STATE", "SINCE", "ENDS", "AGENTS", "GOOD LEAVES", "SUBJECT"),
        [_authority_row(each, moment) for each in overview["authorities"]],
    )
    keys = table(
        ("TOKEN KEY", "STATE", "SINCE"),
        [
            (each["name"][:_NAME], each["state"], ago(each["since"], moment))
            for each in overview["signing_keys"]
        ],
    )
    return "\n\n".join((authorities, keys, *_remarks(overview, moment)))


def hurry_text(hurry: Mapping[str, Any] | None) -> str:
    """Return how a hurry is."""
    if hurry is None:
        return "no hurry runs"
    lines = [
        f"hurry for {hurry['authority'][:_NAME]}: {hurry['state']}{f' ({reason})' if (reason := hurry['reason']) else ''}",
        f"  {hurry['asked']} agents were made to renew, {hurry['back']} are back, {hurry['remaining']} remain",
    ]
    if hurry["missing"]:
        lines.append(f"  not back within 2 minutes: {', '.join(hurry['missing'])}")
    if hurry["left_alone_on_windows"]:
        lines.append(f"  {hurry['left_alone_on_windows']} existing agents on Windows are left alone")
    return "\n".join(lines)


def plan_text(plan: Mapping[str, Any]) -> str:
    """Return what a step would do and what speaks against it."""
    what = "agent CA" if plan["kind"] == "ca" else "key of agent tokens"
    lines = [f"{plan['step']} ({what}): {plan['meaning']}"]
    for role in ("active", "subject"):
        if (each := plan[role]) is not None:
            name = "active now" if role == "active" else "this is about"
            lines.append(f"  {name}: {each['name'][:_NAME]} ({each['state']} since {each['since']})")
    lines += [f"  against it: {each['message']}" for each in plan["objections"]]
    return "\n".join(lines)


def _authority_row(each: Mapping[str, Any], moment: datetime) -> tuple[str, ...]:
    share = "" if each["share"] is None else f" ({each['share']:.0%})"
    days = _days_left(each, moment)
    return (
        each["name"][:_NAME],
        each["state"],
        ago(each["since"], moment),
        f"{each['not_after'][:10]} ({days} days)" if days >= 0 else f"{each['not_after'][:10]} (over)",
        f"{each['agents']}{share}",
        str(each["agents_with_good_leaf"]),
        each["subject"],
    )


def _remarks(overview: Mapping[str, Any], moment: datetime) -> Iterator[str]:
    for each in overview["authorities"]:
        days = _days_left(each, moment)
        if each["state"] in {"active", "prepared"} and days <= _WARN_DAYS:
            yield (
                f"agent CA {each['name'][:_NAME]} ({each['state']}) ends in {days} days, and so does every leaf of it: "
                "`ct-ops-server ca rotate`"
            )
    if behind := overview["workers_behind"]:
        names = ", ".join(f"{each['worker_id']} on {each['node'] or 'an unknown node'}" for each in behind)
        yield f"workers that have not taken up the latest step: {names}"


def _days_left(each: Mapping[str, Any], moment: datetime) -> int:
    return (datetime.fromisoformat(each["not_after"]) - moment).days
