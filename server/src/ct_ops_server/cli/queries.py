"""``ct-ops-server query`` and ``ct-ops-server packages``: ask a host now; what its last scan has found."""

from __future__ import annotations

import click

from ct_ops_server.cli.asking import ask, path_of, seconds, signed
from ct_ops_server.cli.exits import Exit, Stop
from ct_ops_server.cli.output import print_json
from ct_ops_server.cli.work_output import answer_table, packages_table

_WAIT_S = 10
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.argument("agent_name", metavar="AGENT")
@click.argument("query_type", metavar="TYPE", type=click.Choice(["list_ports", "list_services"]))
@click.option(
    "--timeout",
    default="2m",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for the answer, at most 10m.",
)
@_json
def query(agent_name: str, query_type: str, *, timeout: str, as_json: bool) -> None:
    """Ask a host that is online what listens there, or which services it has.

    TYPE is list_ports or list_services. Exit codes: 0 answered, 1 the agent could not find out, 69 it is offline
    or did not answer in time.
    """
    body = {"type": query_type, "expires_in_s": seconds(timeout, "--timeout")}
    asked = ask("POST", path_of("agents", agent_name, "queries"), signed(body))
    while asked["state"] == "waiting":
        asked = ask("GET", path_of("queries", asked["id"], wait_s=_WAIT_S))
    if as_json:
        print_json(asked)
    elif asked["state"] == "answered":
        click.echo(answer_table(asked))
    if asked["state"] == "expired":
        raise Stop(
            Exit.UNREACHABLE,
            f"{agent_name} did not answer within {timeout}; `ct-ops-server agent show {agent_name}` says how it is",
        )
    if asked["state"] == "failed":
        raise Stop(Exit.FAILED, f"{agent_name} could not find out: {asked['error']}")


@click.command()
@click.argument("agent_name", metavar="AGENT")
@click.argument("name", required=False)
@click.option("--removed", is_flag=True, help="What is not installed any more, and since when.")
@_json
def packages(agent_name: str, name: str | None, *, removed: bool, as_json: bool) -> None:
    """List what is installed on a host, by its latest software_inventory."""
    wanted = path_of("agents", agent_name, "packages", name=name, removed="true" if removed else None)
    found = ask("GET", wanted)
    print_json(found) if as_json else click.echo(packages_table(found, removed=removed))
