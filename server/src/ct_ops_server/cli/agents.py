"""``ct-ops-server agent``: look agents up and decide about them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import click

from ct_ops_server.cli.agent_output import agent_sheet, degraded_list
from ct_ops_server.cli.clones import split_lines
from ct_ops_server.cli.exits import errors_as_exits
from ct_ops_server.cli.output import agents_table, deleted_table, print_json

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_reason = click.option("--reason", default="", help="Why; kept in the agent's history.")
_AGENT = click.argument("agent_name", metavar="AGENT")


@click.group()
def agent() -> None:
    """Look agents up and decide about them."""


@agent.command("list")
@click.option(
    "--status", type=click.Choice(["pending", "active", "revoked", "quarantined"]), help="Only these."
)
@click.option(
    "--degraded", is_flag=True, help="Only connected hosts whose data does not come, with the reasons."
)
@click.option("--deleted", is_flag=True, help="What is kept of deleted agents: who, when and why.")
@_json
def list_agents(*, status: str | None, degraded: bool, deleted: bool, as_json: bool) -> None:
    """List the agents with their latest vitals."""
    if deleted:
        gone = _ask("GET", "/v1/deleted-agents")
        print_json(gone) if as_json else click.echo(deleted_table(gone))
        return
    wanted = {"status": status, "degraded": "true" if degraded else None}
    found = _ask("GET", f"/v1/agents?{urlencode({key: value for key, value in wanted.items() if value})}")
    if as_json:
        print_json(found)
    else:
        click.echo(degraded_list(found) if degraded else agents_table(found))


@agent.command()
@_AGENT
@_json
def show(agent_name: str, *, as_json: bool) -> None:
    """Show everything about one agent."""
    _print(_ask("GET", _path(agent_name)), as_json=as_json)


@agent.command()
@click.argument("agent_name", metavar="AGENT", required=False)
@click.option("--restored", is_flag=True, help="All that wait because they were enrolled after the backup.")
@_reason
@_json
def approve(agent_name: str | None, reason: str, *, restored: bool, as_json: bool) -> None:
    """Let a pending agent in, or after a restore all whom the backup does not know."""
    if restored == (agent_name is not None):
        raise click.UsageError("name an AGENT, or say --restored")
    if agent_name is not None:
        _decide("approve", agent_name, reason, as_json=as_json)
        return
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  keeps --help light

    approved = _ask("POST", "/v1/restored-agents/approve", {"actor": actor(), "reason": reason})
    if as_json:
        print_json(approved)
    else:
        lines = [f"{each['hostname']} ({each['id']}) is {each['status']}" for each in approved]
        click.echo("\n".join(lines) or "nobody waits because of a restore")


@agent.command()
@_AGENT
@_reason
@_json
def reject(agent_name: str, reason: str, *, as_json: bool) -> None:
    """Refuse a pending agent for good."""
    _decide("reject", agent_name, reason, as_json=as_json)


@agent.command()
@_AGENT
@_reason
@_json
def revoke(agent_name: str, reason: str, *, as_json: bool) -> None:
    """Refuse an agent for good and end its connections now."""
    _decide("revoke", agent_name, reason, as_json=as_json)


@agent.command()
@_AGENT
@_reason
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
def delete(agent_name: str, reason: str, *, yes: bool, as_json: bool) -> None:
    """Forget an agent: its host may enrol again with a token.

    To keep a host out, revoke it instead; the key of an agent that was revoked stays barred also after
    it is deleted.
    """
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  keeps --help light

    found = _ask("GET", _path(agent_name))
    if not yes:
        click.confirm(f"Delete {found['hostname']} ({found['id']}, {found['status']})?", abort=True, err=True)
    body = {"actor": actor(), "reason": reason}
    deleted = _ask("DELETE", f"/v1/agents/{found['id']}", body)
    if as_json:
        print_json(deleted)
    else:
        click.echo(f"{deleted['hostname']} ({deleted['id']}) is deleted")


@agent.command()
@_AGENT
@click.option(
    "--keep",
    default="",
    help="Which side keeps the agent: its address, hostname, or the beginning of its boot, machine or process id.",
)
@_reason
@_json
def split(agent_name: str, keep: str, reason: str, *, as_json: bool) -> None:
    """Make two agents of one that two hosts speak as.

    One side keeps id and history: the one that was there first, or the one named by --keep. Every other one needs a
    key of its own, and enrols as another agent.
    """
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  keeps --help light

    body = {"actor": actor(), "reason": reason, "keep": keep}
    done = _ask("POST", f"{_path(agent_name)}/split", body)
    print_json(done) if as_json else click.echo(split_lines(done))


@agent.command()
@_AGENT
@click.argument("other", metavar="OTHER")
@_reason
@_json
def merge(agent_name: str, other: str, reason: str, *, as_json: bool) -> None:
    """Record that two agents are one host: AGENT stays, OTHER is revoked and points to it."""
    done = _succeed("merge", agent_name, other, reason)
    print_json(done) if as_json else click.echo(
        f"{done['hostname']} ({done['id']}) stays; {other} is merged into it"
    )


@agent.command()
@click.argument("agent_name", metavar="OLD")
@click.argument("other", metavar="NEW")
@_reason
@_json
def replace(agent_name: str, other: str, reason: str, *, as_json: bool) -> None:
    """Let the new hardware of NEW be agent OLD: its id, tags, checks and history; the old key is barred.

    Do it soon after NEW has enrolled: what NEW itself has delivered goes with its record.
    """
    done = _succeed("replace", agent_name, other, reason)
    print_json(done) if as_json else click.echo(
        f"{done['hostname']} ({done['id']}) runs on the hardware of {other}"
    )


def _succeed(decision: str, agent_name: str, other: str, reason: str) -> Any:
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  keeps --help light

    body = {"actor": actor(), "reason": reason, "other": other}
    return _ask("POST", f"{_path(agent_name)}/{decision}", body)


def _decide(decision: str, agent_name: str, reason: str, *, as_json: bool) -> None:
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  keeps --help light

    decided = _ask("POST", f"{_path(agent_name)}/{decision}", {"actor": actor(), "reason": reason})
    if as_json:
        print_json(decided)
    else:
        click.echo(f"{decided['hostname']} ({decided['id']}) is {decided['status']}")


def _path(agent_name: str) -> str:
    return f"/v1/agents/{quote(agent_name, safe='')}"


def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    from ct_ops_server.cli.admin import ask  # noqa: PLC0415  keeps --help light

    with errors_as_exits():
        return ask(method, path, body)


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    print_json(found) if as_json else click.echo(agent_sheet(found))
