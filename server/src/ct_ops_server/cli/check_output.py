"""Checks and their results as tables and lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ct_ops_server.cli.output import agent_lines, ago, table

_OUTPUT_CHARS = 60


def checks_table(checks: Sequence[Mapping[str, Any]], now: datetime | None = None) -> str:
    """Return checks as a table with their latest result."""
    if not checks:
        return "no checks yet: make one with `ct-ops-server check add AGENT TYPE …`"
    moment = now or datetime.now(UTC)
    headings = ("ID", "HOSTNAME", "NAME", "EVERY", "STATUS", "LAST RUN", "FAILING SINCE")
    rows = [
        (
            check["id"],
            check["hostname"],
            check["name"],
            f"{check['interval_s']}s",
            _status(check),
            ago(check["last_run_at"], moment),
            check["failing_since"] or "-",
        )
        for check in checks
    ]
    return table(headings, rows)


def check_lines(check: Mapping[str, Any]) -> str:
    """Return everything about a check, a line each; what it is told by key."""
    told = {f"config.{name}": value for name, value in check["config"].items()}
    rest = {name: value for name, value in check.items() if name not in {"config", "output"}}
    output = check["output"]
    return "\n".join([agent_lines({**rest, **told}), *([] if output is None else ["", output])])


def results_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return results as a table, each output cut to its first line."""
    if not results:
        return "no results"
    headings = ("RAN AT", "CHECK", "STATUS", "TOOK", "OUTPUT")
    rows = [
        (
            result["ran_at"],
            result["name"],
            result["status"],
            f"{result['duration_ms']} ms",
            _first_line(result["output"]),
        )
        for result in results
    ]
    return table(headings, rows)


def _status(check: Mapping[str, Any]) -> str:
    if not check["enabled"]:
        return "disabled"
    return check["status"] or "waiting"


def _first_line(output: str) -> str:
    line = output.partition("\n")[0]
    return line if len(line) <= _OUTPUT_CHARS else line[: _OUTPUT_CHARS - 1] + "…"
