"""``ct-ops-server samples``: what an agent's collectors delivered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import click

from ct_ops_server.cli.exits import errors_as_exits
from ct_ops_server.cli.output import print_json
from ct_ops_server.cli.sample_output import curves_text, series_table
from ct_ops_server.config.duration import parse_duration

_A_TIME = "is neither how long ago (90s, 30m, 1h, 7d) nor a time like 2026-01-31T12:00:00Z"


_EXAMPLES = """\b
Examples:
  ct-ops-server samples web-1
  ct-ops-server samples web-1 cpu.percent --since 6h
  ct-ops-server samples web-1 'cpu.core_percent{core="0"}' --since 2026-01-31T12:00:00Z --json
"""


@click.command(epilog=_EXAMPLES)
@click.argument("agent_name", metavar="AGENT")
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--since", default="1h", show_default=True, metavar="TIME", help="From then on: 30m, 1h, 7d, or a time."
)
@click.option("--until", metavar="TIME", help="Up to then (default: now).")
@click.option(
    "--resolution",
    type=click.Choice(["raw", "1m", "1h", "1d"]),
    help="As samples came, or rolled up (default: what suits the time asked for).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def samples(
    agent_name: str,
    name: str | None,
    *,
    since: str,
    until: str | None,
    resolution: str | None,
    as_json: bool,
) -> None:
    """Show what an agent's collectors delivered.

    Without NAME: everything the agent has, with the latest values. NAME is what a collector calls a value
    (every combination of labels is shown), or one series with its labels. Times that carry no zone are UTC.
    A long time is answered with what was rolled up by the minute, hour or day.
    """
    path = f"/v1/agents/{quote(agent_name, safe='')}"
    if name is None:
        found = _ask(f"{path}/series")
        print_json(found) if as_json else click.echo(series_table(found, agent_name))
        return
    now = datetime.now(UTC)
    begin = moment(since, now, "--since")
    # To the end of this second, and a little for hosts whose clocks are ahead.
    end = now + timedelta(minutes=5) if until is None else moment(until, now, "--until")
    asked = {"name": name, "since": begin.isoformat(), "until": end.isoformat()}
    query = urlencode(asked | ({"resolution": resolution} if resolution else {}))
    found = _ask(f"{path}/samples?{query}")
    print_json(found) if as_json else click.echo(curves_text(found, since))


def moment(text: str, now: datetime, option: str) -> datetime:
    """Return the moment that an operator means by a duration (before now) or a time.

    Raises:
        click.BadParameter: it is neither.
    """
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} {_A_TIME}", param_hint=option) from None
    return said.astimezone(UTC) if said.tzinfo else said.replace(tzinfo=UTC)


def _ask(path: str) -> Any:
    from ct_ops_server.cli.admin import ask  # noqa: PLC0415  keeps --help light

    with errors_as_exits():
        return ask("GET", path)
