"""``ct-ops-server check``: what agents shall look at, and what they found.

CHECK is an id, a unique prefix of it, or a unique name. What a check is told is validated by the server, all
of it at once; this module only turns words into the body of a request.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from ct_ops_proto.checks import CHECK_TYPES, keys_of
from ct_ops_server.cli.check_output import check_lines, checks_table, results_table
from ct_ops_server.cli.exits import errors_as_exits
from ct_ops_server.cli.output import print_json
from ct_ops_server.config.duration import parse_duration

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_CHECK = click.argument("selector", metavar="CHECK")


@click.group()
def check() -> None:
    """Define what agents shall look at, and see what they found."""


@check.command()
@click.argument("agent_name", metavar="AGENT")
@click.argument("check_type", metavar="TYPE")
@click.argument("values", metavar="[KEY=VALUE]…", nargs=-1)
@click.option("--name", default="", help="What to call it (default: after what it looks at).")
@click.option("--interval", default="60s", show_default=True, metavar="DURATION", help="10s to 1h.")
@click.option("--timeout", metavar="DURATION", help="Of one run (default: that of its type).")
@click.option("--config", "file", metavar="FILE", help="JSON object with more keys; - is standard input.")
@_json
def add(
    agent_name: str,
    check_type: str,
    values: tuple[str, ...],
    *,
    name: str,
    interval: str,
    timeout: str | None,
    file: str | None,
    as_json: bool,
) -> None:
    """Have an agent run a check from now on.

    TYPE is one of port, process, http, certificate, cert_file; docs/checks.md has their keys. A key of an
    object is written with a dot: headers.Accept=text/html. Secrets belong into --config, where no other user of
    this host sees them.

    \b
      check add web-1 port host=127.0.0.1 port=5432
      check add web-1 http url=https://example.com/health expected_status=204 --interval 30s
    """  # noqa: D301  click's mark for lines that are not to be wrapped
    given = _pairs(values)
    _warn_of_secrets(check_type, given)
    body = {
        "type": check_type,
        "config": {**_read_config(file), **given},
        "name": name,
        "interval_s": _seconds(interval, "--interval"),
        "timeout_s": 0 if timeout is None else _seconds(timeout, "--timeout"),
    }
    made = _ask("POST", f"/v1/agents/{_quoted(agent_name)}/checks", _signed(body))
    if ignored := made["existing_agents_ignore"]:
        click.echo(f"note: an existing agent ignores {', '.join(ignored)}", err=True)
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['name']} ({made['id']}) runs on {made['hostname']} every {made['interval_s']} s")


@check.command("list")
@click.argument("agent_name", metavar="[AGENT]", required=False)
@_json
def list_checks(agent_name: str | None, *, as_json: bool) -> None:
    """List the checks of one agent or of all, with their latest result."""
    found = _ask(
        "GET", "/v1/checks" if agent_name is None else f"/v1/checks?{urlencode({'agent': agent_name})}"
    )
    print_json(found) if as_json else click.echo(checks_table(found))


@check.command()
@_CHECK
@_json
def show(selector: str, *, as_json: bool) -> None:
    """Show a check with its latest result. Its secrets are masked."""
    found = _ask("GET", _path(selector))
    print_json(found) if as_json else click.echo(check_lines(found))


@check.command()
@_CHECK
@_json
def enable(selector: str, *, as_json: bool) -> None:
    """Run a check again that was disabled."""
    _switch(selector, "enable", as_json=as_json)


@check.command()
@_CHECK
@_json
def disable(selector: str, *, as_json: bool) -> None:
    """Stop a check and keep it, with its results."""
    _switch(selector, "disable", as_json=as_json)


@check.command()
@_CHECK
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
def remove(selector: str, *, yes: bool, as_json: bool) -> None:
    """Stop a check and forget it, with its results."""
    found = _ask("GET", _path(selector))
    if not yes:
        name = f"{found['name']} ({found['id']}) of {found['hostname']}"
        click.confirm(f"Remove {name} with its results?", abort=True, err=True)
    removed = _ask("DELETE", f"/v1/checks/{found['id']}", _signed({}))
    print_json(removed) if as_json else click.echo(f"{removed['name']} ({removed['id']}) is removed")


@check.command()
@click.argument("selector", metavar="CHECK|AGENT")
@click.option("--since", metavar="DURATION", help="Only runs of the last 30s, 5m, 12h, 7d.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="At most so many, newest first.",
)
@_json
def results(selector: str, *, since: str | None, limit: int, as_json: bool) -> None:
    """List the results of a check, or of all checks of an agent, newest run first."""
    wanted = {"since_s": None if since is None else _seconds(since, "--since"), "limit": limit}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    found = _ask("GET", f"/v1/check-results/{_quoted(selector)}?{query}")
    print_json(found) if as_json else click.echo(results_table(found))


def _switch(selector: str, decision: str, *, as_json: bool) -> None:
    switched = _ask("POST", f"{_path(selector)}/{decision}", _signed({}))
    if as_json:
        print_json(switched)
        return
    already = " already" if switched["was_so_before"] else ""
    click.echo(f"{switched['name']} ({switched['id']}) is {decision}d{already}")


def _pairs(words: tuple[str, ...]) -> dict[str, Any]:
    """Return ``key=value`` words as an object; ``a.b=c`` is a key of the object ``a``."""
    found = dict[str, Any]()
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{word!r} is no KEY=VALUE", param_hint="KEY=VALUE")
        outer, dot, inner = key.partition(".")
        into = found.setdefault(outer, {}) if dot else found
        name = inner if dot else outer
        if not isinstance(into, dict) or name in into:
            raise click.BadParameter(f"{key!r} is given twice", param_hint="KEY=VALUE")
        into[name] = value
    return found


def _warn_of_secrets(check_type: str, given: dict[str, Any]) -> None:
    known = keys_of(check_type) if check_type in CHECK_TYPES else {}
    for name in given:
        if name in known and known[name].is_secret:
            click.echo(
                f"warning: every user of this host can see {name} on the command line; use --config", err=True
            )


def _read_config(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        found = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"{file} cannot be read: {error}", param_hint="--config") from error
    if not isinstance(found, dict):
        raise click.BadParameter(f"{file} holds no JSON object", param_hint="--config")
    return found


def _seconds(text: str, option: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}", param_hint=option) from error


def _path(selector: str) -> str:
    return f"/v1/checks/{_quoted(selector)}"


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _signed(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with the name of whoever says it."""
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  keeps --help light

    return {"actor": actor(), **body}


def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    from ct_ops_server.cli.admin import ask  # noqa: PLC0415  keeps --help light

    with errors_as_exits():
        return ask(method, path, body)
