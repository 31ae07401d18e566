"""Answers, tasks and packages as tables and lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ct_ops_server.cli.output import agent_lines, ago, table

_SENTENCES = {
    "done": "done",
    "cancelled": "it was cancelled",
    "expired": "its host did not connect in time: it was never begun",
    "interrupted": "its agent was restarted while it ran, as often as it may be tried",
    "unknown": "its agent has not been heard of: nobody knows what became of it; if it says so later, "
    "`ct-ops-server task show` has it",
}


def answer_table(query: Mapping[str, Any]) -> str:
    """Return what a query found."""
    if query["type"] == "list_ports":
        ports = sorted(query["ports"], key=lambda port: (port["port"], port["protocol"]))
        rows = [(str(port["port"]), port["protocol"], port["process"] or "-") for port in ports]
        return table(("PORT", "PROTOCOL", "PROCESS"), rows) if rows else "nothing listens"
    services = sorted(query["services"], key=lambda service: service["name"])
    rows = [(service["name"], service["load_state"], service["active_sub"]) for service in services]
    return table(("SERVICE", "LOADED", "STATE"), rows) if rows else "no services"


def tasks_table(tasks: Sequence[Mapping[str, Any]], now: datetime | None = None) -> str:
    """Return tasks as a table."""
    if not tasks:
        return "no tasks yet: give one with `ct-ops-server task run AGENT software_inventory`"
    moment = now or datetime.now(UTC)
    headings = ("ID", "HOSTNAME", "TYPE", "STATE", "ATTEMPT", "GIVEN", "BY", "ENDED", "ERROR")
    rows = [
        (
            task["id"],
            task["hostname"],
            task["type"],
            task["state"],
            str(task["attempt"]),
            ago(task["created_at"], moment),
            task["created_by"],
            "-" if task["ended_at"] is None else ago(task["ended_at"], moment),
            _first_line(task["error"] or task["refused"]),
        )
        for task in tasks
    ]
    return table(headings, rows)


def task_lines(task: Mapping[str, Any]) -> str:
    """Return everything about a task, a line each, then what it has said."""
    rest = {name: value for name, value in task.items() if name not in {"output", "is_over"}}
    lines = [agent_lines(rest)]
    if text := task["output"]["text"]:
        lines += ["", text.rstrip("\n")]
    if task["output_is_cut"]:
        lines.append("(what it said after that is cut off)")
    return "\n".join(lines)


def task_sentence(task: Mapping[str, Any]) -> str:
    """Return how a task that is over ended."""
    if task["state"] == "failed":
        code = "" if task["exit_code"] in {None, -1} else f" with exit code {task['exit_code']}"
        return f"failed{code}: {task['error'] or task['refused'] or 'its agent gave no reason'}"
    error = f" ({task['error']})" if task["error"] else ""
    return f"{_SENTENCES.get(task['state'], task['state'])}{error}"


def packages_table(packages: Sequence[Mapping[str, Any]], *, removed: bool) -> str:
    """Return packages as a table."""
    if not packages:
        return (
            "nothing was removed"
            if removed
            else "no such packages; scan with `ct-ops-server task run AGENT software_inventory --wait`"
        )
    last = "removed_at" if removed else "last_seen_at"
    headings = ("NAME", "VERSION", "ARCH", "SOURCE", "FIRST SEEN", last.removesuffix("_at").replace("_", " "))
    columns = ("name", "version", "architecture", "source", "first_seen_at", last)
    rows = [tuple(package[column] or "-" for column in columns) for package in packages]
    return table(tuple(heading.upper() for heading in headings), rows)


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:60] or "-"
