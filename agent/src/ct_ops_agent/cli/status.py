"""``ct-ops-agent status``: how the agent of this host is, and what to do when it is not well."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from ct_ops_agent.cli.configuration import config_option, json_option, load
from ct_ops_agent.config.load import Flags
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.status.place import find_report, folders
from ct_ops_agent.status.process import is_alive
from ct_ops_agent.status.report import Report, to_document
from ct_ops_agent.status.text import describe
from ct_ops_agent.status.verdict import Verdict, judge

_EXIT_CODES = """\b
Exit codes:
  0   connected, and the last heartbeat was acknowledged in time
  2   wrong usage
  3   not running
  4   running, and not connected: pending, refused, unreachable, silent
  78  the configuration cannot work; every problem is listed
"""


@click.command(epilog=_EXIT_CODES)
@config_option
@json_option
def status(*, config_file: Path | None, as_json: bool) -> None:
    """Say how the agent of this host is."""
    config = load(Flags(config_file=config_file))
    report, verdict = look(config, now=time.time())
    if as_json:
        click.echo(json.dumps(as_document(report, verdict), indent=2))
    else:
        click.echo(describe(report, verdict, time.time()))
    sys.exit(verdict.exit_code)


def look(config: AgentConfig, *, now: float) -> tuple[Report | None, Verdict]:
    """Return the newest report about a data directory and what it means now."""
    report = find_report(config.data_dir, folders(config.data_dir, os.environ))
    alive = report is not None and is_alive(report.pid, config.data_dir)
    return report, judge(report, alive=alive, now=now)


def as_document(report: Report | None, verdict: Verdict) -> dict[str, Any]:
    """Return what ``--json`` prints: the report, and how it is judged."""
    return {
        **(to_document(report) if report else {}),
        "status": verdict.headline,
        "running": verdict.is_running,
        "problem": verdict.problem,
    }
