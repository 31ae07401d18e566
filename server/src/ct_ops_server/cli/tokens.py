"""``ct-ops-server token`` and ``refusals``: who may enrol, who did, and who was not let in.

TOKEN is an id, a unique prefix of it, or a unique label: never the secret.
"""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import quote, urlencode

import click

from ct_ops_proto.enrolment_token import EnrolmentToken, TokenIncompleteError, parse_token
from ct_ops_server.cli.exits import errors_as_exits
from ct_ops_server.cli.output import agent_lines, print_json, refusals_table, token_sheet, tokens_table
from ct_ops_server.cli.terms import terms_body, terms_options

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_TOKEN = click.argument("selector", metavar="TOKEN")


@click.group()
def token() -> None:
    """Make enrolment tokens, see what became of them, revoke them."""


@token.command()
@terms_options
@_json
def create(*, as_json: bool, **terms: Any) -> None:
    """Make an enrolment token. It is shown once: only its hash is stored."""
    made = _ask("POST", "/v1/tokens", _signed(terms_body(**terms)))
    for warning in made.pop("warnings"):
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        print_json(made)
        return
    uses = "any number of hosts" if made["max_uses"] is None else f"{made['max_uses']} host(s)"
    until = f"until {made['expires_at']}" if made["expires_at"] else "without end"
    click.echo(f"Token {made['label']!r} admits {uses}, {until}. It is shown once:", err=True)
    click.echo(made["token"])
    _say_what_to_run(made)


def _say_what_to_run(made: dict[str, Any]) -> None:
    if made["install_line"]:
        click.echo(f"To install the agent on a host, as root:\n  {made['install_line']}", err=True)
        return
    click.echo(f"note: {made['install_problem']}", err=True)
    click.echo(f"Where the agent is installed, as root:\n  {made['run_line']}", err=True)


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
    print_json(sheet) if as_json else click.echo(token_sheet(sheet))


@token.command()
@_TOKEN
@click.option("--reason", default="", help="Why; kept with the token.")
@_json
def revoke(selector: str, reason: str, *, as_json: bool) -> None:
    """Let a token admit nobody any more. Agents that it admitted stay."""
    revoked = _ask("POST", f"/v1/tokens/{quote(selector, safe='')}/revoke", _signed({"reason": reason}))
    if as_json:
        print_json(revoked)
        return
    when = "was revoked already" if revoked["was_revoked_before"] else "is revoked"
    click.echo(f"{revoked['label']} ({revoked['id']}) {when}")


@token.command("import")
@click.option(
    "--sha256", required=True, metavar="HEX", help="Of the whole token, as the other server stores it."
)
@click.option(
    "--uses", type=click.IntRange(0, 1_000_000), default=0, help="How often it was used there (default: 0)."
)
@terms_options
@_json
def import_(*, sha256: str, uses: int, as_json: bool, **terms: Any) -> None:
    """Take over a token of an existing server by its hash; the token itself is not needed."""
    body = _signed({"sha256": sha256.strip(), "uses": uses, **terms_body(**terms)})
    made = _ask("POST", "/v1/imported-tokens", body)
    print_json(made) if as_json else click.echo(f"{made['label']} ({made['id']}) is known here now")


@token.command()
@click.argument("text", metavar="TOKEN|-")
@_json
def decode(text: str, *, as_json: bool) -> None:
    """Explain a token: where it points and what it pins. With - it is read from standard input."""
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
        "form": _form_of(parsed),
        "addresses": list(hint.addresses) if hint else [],
        "ca_sha256": hint.ca_sha256.hex() if hint else "",
    }
    print_json(found) if as_json else click.echo(agent_lines(found))


def _form_of(parsed: EnrolmentToken) -> str:
    if parsed.hint:
        return "ours"
    if not parsed.is_opaque:
        return "ours without its hint: the host has to be told the server's address and CA"
    cut = (
        "; it begins like one of ours, so it may have been cut off"
        if parsed.secret.startswith("tok_")
        else ""
    )
    return f"opaque: sent to the server as it is{cut}"


@click.group()
def refusals() -> None:
    """See who was not admitted."""


@refusals.command("list")
@click.option("--token", "selector", help="Only of this token.")
@click.option("--reason", help="Only for this reason.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="At most so many, newest first.",
)
@_json
def list_refusals(*, selector: str | None, reason: str | None, limit: int, as_json: bool) -> None:
    """List who was not admitted and why, the latest first."""
    wanted = {"token": selector, "reason": reason, "limit": limit}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    found = _ask("GET", f"/v1/refusals?{query}")
    print_json(found) if as_json else click.echo(refusals_table(found))


def _signed(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with the name of whoever says it."""
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  keeps --help light

    return {"actor": actor(), **body}


def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    from ct_ops_server.cli.admin import ask  # noqa: PLC0415  keeps --help light

    with errors_as_exits():
        return ask(method, path, body)
