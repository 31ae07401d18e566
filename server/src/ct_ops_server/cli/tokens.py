"""``ct-ops-server token``: enrolment tokens."""

from __future__ import annotations

import click

from ct_ops_server.cli.exits import errors_as_exits
from ct_ops_server.cli.output import print_json
from ct_ops_server.config.duration import parse_duration


@click.group()
def token() -> None:
    """Make enrolment tokens."""


@token.command()
@click.option("--label", required=True, help="What the token is for.")
@click.option("--auto-approve", is_flag=True, help="Admit without an operator's approval.")
@click.option(
    "--max-uses", type=click.IntRange(1, 1_000_000), help="How many hosts it admits (default: any number)."
)
@click.option("--expires", metavar="DURATION", help="30s, 5m, 12h or 7d (default: never).")
@click.option("--tag", "tags", multiple=True, metavar="K:V", help="Put on every admitted agent; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(
    *,
    label: str,
    auto_approve: bool,
    max_uses: int | None,
    expires: str | None,
    tags: tuple[str, ...],
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
    click.echo("On the host, with the token in CT_OPS_ENROLMENT_TOKEN: ct-ops-agent run", err=True)


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
