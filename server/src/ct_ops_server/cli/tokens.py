"""``ct-ops-server token`` and ``refusals``: who may enrol, who did, and who was not let in.

TOKEN is an id, a unique prefix of it, or a unique label: never the secret.
"""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import quote, urlencode

import click

from ct_ops_server.cli.exits import errors_as_exits
from ct_ops_server.cli.output import agent_lines, print_json, refusals_table, tokens_table
from ct_ops_server.config.duration import parse_duration

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_TOKEN = click.argument("selector", metavar="TOKEN")


@click.group()
def token() -> None:
    """Make enrolment tokens, see what became of them, revoke them."""


@token.command()
@click.option("--label", required=True, help="What the token is for.")
@click.option("--auto-approve", is_flag=True, help="Admit without an operator's approval.")
@click.option(
    "--max-uses", type=click.IntRange(1, 1_000_000), help="How many hosts it admits (default: any number)."
)
@click.option("--expires", metavar="DURATION", help="30s, 5m, 12h or 7d (default: never).")
@click.option("--tag", "tags", multiple=True, metavar="K:V", help="Put on every admitted agent; repeatable.")
@click.option("--network", "networks", multiple=True, metavar="CIDR", help="Only from there; repeatable.")
@click.option("--hostname", "hostname_pattern", default="", metavar="PATTERN", help="Only hosts like web-*.")
@_json
def create(
    *,
    label: str,
    auto_approve: bool,
    max_uses: int | None,
    expires: str | None,
    tags: tuple[str, ...],
    networks: tuple[str, ...],
    hostname_pattern: str,
    as_json: bool,
) -> None:
    """Make an enrolment token. It is shown once: only its hash is stored."""
    from ct_ops_server.cli.admin import actor, ask  # noqa: PLC0415  keeps --help light

    body = {
        "actor": actor(),
        "label": label,
        "auto_approve": auto_approve,
        "max_uses": max_uses,
        "expires_in_s": None if expires is None else _seconds(expires),
        "tags": dict(_tag(text) for text in tags),
        "networks": list(networks),
        "hostname_pattern": hostname_pattern,
    }
    with errors_as_exits():
        made = ask("POST", "/v1/tokens", body)
    for warning in made.pop("warnings"):
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        print_json(made)
        return
    uses = "any number of hosts" if made["max_uses"] is None else f"{made['max_uses']} host(s)"
    until = f"until {made['expires_at']}" if made["expires_at"] else "without end"
    click.echo(f"Token {label!r} admits {uses}, {until}. It is shown once:", err=True)
    click.echo(made["token"])
    click.echo(f"On the host, as root:\n  {made['run_line']}", err=True)


@token.command("list")
@_json
def list_tokens(*, as_json: bool) -> None:
    """List all tokens, youngest first."""
    found = _ask("GET", "/v1/tokens")
    print_json(found) if as_json else click.echo(tokens_table(found))


@token.command()
@_TOKEN
@_json
def show(selector: str, *, as_json: bool) -> None:
    """Show a token, whom it admitted, and whom it did not and why."""
    sheet = _ask("GET", f"/v1/tokens/{quote(selector, safe='')}")
    print_json(sheet) if as_json else click.echo(agent_lines(sheet))


@token.command()
@_TOKEN
@click.option("--reason", default="", help="Why; kept with the token.")
@_json
def revoke(selector: str, reason: str, *, as_json: bool) -> None:
    """Let a token admit nobody any more. Agents that it admitted stay."""
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  keeps --help light

    body = {"actor": actor(), "reason": reason}
    revoked = _ask("POST", f"/v1/tokens/{quote(selector, safe='')}/revoke", body)
    if as_json:
        print_json(revoked)
        return
    when = "was revoked already" if revoked["was_revoked_before"] else "is revoked"
    click.echo(f"{revoked['label']} ({revoked['id']}) {when}")


@token.command("import")
@click.option(
    "--sha256", required=True, metavar="HEX", help="Of the whole token, as the other server stores it."
)
@click.option("--label", required=True, help="What the token is for.")
@click.option("--auto-approve", is_flag=True, help="Admit without an operator's approval.")
@click.option("--max-uses", type=click.IntRange(1, 1_000_000), help="How many hosts it admits.")
@click.option("--expires", metavar="DURATION", help="30s, 5m, 12h or 7d (default: never).")
@_json
def import_(
    *, sha256: str, label: str, auto_approve: bool, max_uses: int | None, expires: str | None, as_json: bool
) -> None:
    """Take over a token of an existing server by its hash; the token itself is not needed."""
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  keeps --help light

    body = {
        "actor": actor(),
        "sha256": sha256,
        "label": label,
        "auto_approve": auto_approve,
        "max_uses": max_uses,
        "expires_in_s": None if expires is None else _seconds(expires),
    }
    made = _ask("POST", "/v1/imported-tokens", body)
    print_json(made) if as_json else click.echo(f"{made['label']} ({made['id']}) is known here now")


@token.command()
@click.argument("text", metavar="TOKEN|-")
@_json
def decode(text: str, *, as_json: bool) -> None:
    """Explain a token: where it points and what it pins. With - it is read from standard input."""
    from ct_ops_proto.enrolment_token import TokenIncompleteError, parse_token  # noqa: PLC0415  keeps --help light

    if text == "-":
        text = sys.stdin.readline()
    else:
        click.echo(
            "warning: a token on the command line can be seen by every user of this host; use -", err=True
        )
    try:
        parsed = parse_token(text.strip())
    except TokenIncompleteError as error:
        raise click.ClickException(str(error)) from error
    hint = parsed.hint
    found = {
        "form": "ours" if hint else "opaque: sent to the server as it is",
        "addresses": list(hint.addresses) if hint else [],
        "ca_sha256": hint.ca_sha256.hex() if hint else "",
    }
    print_json(found) if as_json else click.echo(agent_lines(found))


@click.group()
def refusals() -> None:
    """See who was not admitted."""


@refusals.command("list")
@click.option("--token", "selector", help="Only of this token.")
@click.option("--reason", help="Only for this reason.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@_json
def list_refusals(*, selector: str | None, reason: str | None, limit: int, as_json: bool) -> None:
    """List who was not admitted and why, the latest first."""
    wanted = {"token": selector, "reason": reason, "limit": limit}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    found = _ask("GET", f"/v1/refusals?{query}")
    print_json(found) if as_json else click.echo(refusals_table(found))


def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    from ct_ops_server.cli.admin import ask  # noqa: PLC0415  keeps --help light

    with errors_as_exits():
        return ask(method, path, body)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}", param_hint="--expires") from error


def _tag(text: str) -> tuple[str, str]:
    key, separator, value = text.partition(":")
    if not separator or not key.strip():
        raise click.BadParameter(f"{text!r} is no key:value", param_hint="--tag")
    return key.strip(), value.strip()
