"""One agent as lines for people, and the list of those whose data does not come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ct_ops_server.cli.output import agent_lines, ago, table

_BLOCKS = ("degraded", "collectors", "gaps", "refused_items")


def agent_sheet(agent: Mapping[str, Any], now: datetime | None = None) -> str:
    """Return everything about one agent: a line each, then what its collectors deliver, and what was lost."""
    moment = now or datetime.now(UTC)
    blocks = [agent_lines({name: value for name, value in agent.items() if name not in _BLOCKS})]
    if agent.get("degraded"):
        blocks.insert(0, "DEGRADED\n" + "\n".join(_sentences(agent)))
    if agent.get("collectors"):
        blocks.append(_collectors_table(agent["collectors"], moment))
    if agent.get("gaps"):
        blocks.append("Lost by the agent:\n" + _gaps_table(agent["gaps"], moment))
    if agent.get("refused_items"):
        blocks.append("Refused here:\n" + _refused_table(agent["refused_items"], moment))
    return "\n\n".join(blocks)


def degraded_list(agents: Sequence[Mapping[str, Any]]) -> str:
    """Return each degraded agent with its reasons below it."""
    if not agents:
        return "no host is degraded: whoever is connected delivers"
    return "\n".join(
        "\n".join([f"{agent['hostname']} ({agent['id']})", *_sentences(agent)]) for agent in agents
    )


def _sentences(agent: Mapping[str, Any]) -> list[str]:
    return [f"  {reason['sentence']}" for reason in agent["degraded"]]


def _collectors_table(collectors: Sequence[Mapping[str, Any]], now: datetime) -> str:
    rows = [
        (
            each["name"],
            f"{each['interval_s']:g}s" if each["running"] else "off",
            ago(each["newest_sample_at"], now),
            each["problem"] or "-",
        )
        for each in collectors
    ]
    return table(("COLLECTOR", "EVERY", "NEWEST SAMPLE", "PROBLEM"), rows)


def _gaps_table(gaps: Sequence[Mapping[str, Any]], now: datetime) -> str:
    rows = [
        (
            ago(gap["reported_at"], now),
            str(gap["items"]),
            gap["type"],
            gap["from"] or "-",
            gap["to"] or "-",
            gap["reason"],
        )
        for gap in gaps
    ]
    return table(("REPORTED", "ITEMS", "KIND", "FROM", "TO", "WHY"), rows)


def _refused_table(refused: Sequence[Mapping[str, Any]], now: datetime) -> str:
    rows = [
        (ago(each["last_at"], now), str(each["items"]), each["kind"], each["reason"], each["example"] or "-")
        for each in refused
    ]
    means = {each["reason"]: each["means"] for each in refused if each["means"]}
    return "\n".join(
        [
            table(("LAST", "ITEMS", "KIND", "REASON", "FOR EXAMPLE"), rows),
            *(f"{reason}: {text}" for reason, text in means.items()),
        ]
    )
