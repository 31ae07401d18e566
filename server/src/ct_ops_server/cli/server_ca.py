"""``ct-ops-server ca server``: the CA of the server's own certificate, which agents believe, and its replacement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from ct_ops_server.cli.asking import ask, path_of, signed
from ct_ops_server.cli.output import print_json, table

_NAME = 16
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_force = click.option("--force", is_flag=True, help="Although agents would be cut off.")


@click.group("server")
def server_ca() -> None:
    """Look after the server CA, which signs the server's own certificate and which agents believe.

    It replaces itself: the next one is prepared 400 days before the end, announced to agents, and signs 90 days before
    the end. These commands are for whoever wants it sooner.
    """


@server_ca.command()
@_json
def status(*, as_json: bool) -> None:
    """Show every server CA: what it does, when it ends, how many agents believe it, and who cannot."""
    _show(ask("GET", path_of("server-ca")), as_json=as_json)


@server_ca.command()
@_json
def prepare(*, as_json: bool) -> None:
    """Make the next server CA and announce it to agents; nothing is signed by it yet."""
    _take("prepare", force=False, as_json=as_json)


@server_ca.command()
@_force
@_json
def activate(*, force: bool, as_json: bool) -> None:
    """Let the next server CA sign the server's certificate; refused while too few agents believe it."""
    _take("activate", force=force, as_json=as_json)


@server_ca.command()
@_force
@_json
def retire(*, force: bool, as_json: bool) -> None:
    """Have agents forget the earlier server CA before its end, for example because its key was stolen."""
    _take("retire", force=force, as_json=as_json)


def _take(step: str, *, force: bool, as_json: bool) -> None:
    _show(ask("POST", path_of("server-ca", step), signed({"force": force})), as_json=as_json)


def _show(found: Mapping[str, Any], *, as_json: bool) -> None:
    print_json(found) if as_json else click.echo(server_ca_text(found, datetime.now(UTC)))


def server_ca_text(found: Mapping[str, Any], now: datetime) -> str:
    """Return every server CA as a table, then what wants attention."""
    rows = [
        (
            each["sha256"][:_NAME],
            each["role"],
            f"{each['not_after'][:10]} ({_days(each['not_after'], now)} days)",
            f"{each['believed_by']} of {each['agents']} ({each['share']:.0%})",
            each["subject"],
        )
        for each in found["authorities"]
    ]
    return "\n\n".join(
        (table(("SERVER CA", "ROLE", "ENDS", "BELIEVED BY", "SUBJECT"), rows), *_remarks(found, now))
    )


def _remarks(found: Mapping[str, Any], now: datetime) -> Iterator[str]:
    if problem := found["problem"]:
        yield f"this server does not do what it should: {problem}"
    if behind := found["nodes_behind"]:
        yield f"not yet, or not able to, act by the latest step: {', '.join(behind)}"
    if found["pin_is_leaf"]:
        yield "INGEST_TLS_CERT holds no CA: agents believe the certificate itself, and no other can be announced"
    if (due := found["activates_by_itself_at"]) is not None:
        yield f"the next one signs by itself from {due[:10]} on; sooner: `ct-ops-server ca server activate`"
    if not found["authorities"]:
        return
    newest = next((each for each in found["authorities"] if each["role"] == "next"), found["authorities"][0])
    if newest["existing_agents"]:
        until = found["existing_agents_until"]
        yield (
            f"{newest['existing_agents']} existing agents cannot learn another server CA; what they believe ends "
            f"{until[:10]} ({_days(until, now)} days)"
        )
    if names := newest["not_believed_by"]:
        yield f"{newest['sha256'][:_NAME]} is not believed by: {', '.join(names)}"


def _days(moment: str, now: datetime) -> int:
    return (datetime.fromisoformat(moment) - now).days
