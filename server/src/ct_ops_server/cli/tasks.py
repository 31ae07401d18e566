"""``ct-ops-server task``: give agents work, follow it, and take it back.

TASK is an id or a unique prefix of it.
"""

from __future__ import annotations

from typing import Any

import click

from ct_ops_server.cli.asking import ask, path_of, seconds, signed
from ct_ops_server.cli.exits import Exit, Stop
from ct_ops_server.cli.output import print_json
from ct_ops_server.cli.work_output import task_lines, task_sentence, tasks_table

_WAIT_S = 10
_LARGEST_EXIT_CODE = 255
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_TASK = click.argument("selector", metavar="TASK")


@click.group()
def task() -> None:
    """Give agents work, follow it, and take it back."""


@task.command()
@click.argument("agent_name", metavar="AGENT")
@click.argument("task_type", metavar="TYPE")
@click.option("--wait", is_flag=True, help="Show what it says until it is over, and exit with its exit code.")
@click.option(
    "--expires",
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="How long it may wait for a host that is offline: 1m to 30d.",
)
@_json
def run(agent_name: str, task_type: str, *, wait: bool, expires: str, as_json: bool) -> None:
    """Give an agent a task. TYPE is software_inventory.

    With --wait the exit code is the task's own; 1 when it ended without one, 69 when its host did not connect in
    time.
    """
    body = {"type": task_type, "expires_in_s": seconds(expires, "--expires")}
    given = ask("POST", path_of("agents", agent_name, "tasks"), signed(body))
    if not wait:
        print_json(given) if as_json else click.echo(f"task {given['id']} is {_whereabouts(given)}")
        return
    ended = _follow(given, quietly=as_json)
    if as_json:
        print_json(ended)
    _exit_as(ended)


@task.command("list")
@click.argument("agent_name", metavar="[AGENT]", required=False)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="At most so many, newest first.",
)
@_json
def list_tasks(agent_name: str | None, *, limit: int, as_json: bool) -> None:
    """List the tasks of one agent or of all, the youngest first."""
    found = ask("GET", path_of("tasks", agent=agent_name, limit=limit))
    print_json(found) if as_json else click.echo(tasks_table(found))


@task.command()
@_TASK
@_json
def show(selector: str, *, as_json: bool) -> None:
    """Show everything about a task, with what it has said."""
    found = ask("GET", path_of("tasks", selector))
    print_json(found) if as_json else click.echo(task_lines(found))


@task.command()
@_TASK
@_json
def cancel(selector: str, *, as_json: bool) -> None:
    """Take a task back; one that runs is stopped by its agent."""
    cancelled = ask("POST", path_of("tasks", selector, "cancel"), signed({}))
    print_json(cancelled) if as_json else click.echo(f"task {cancelled['id']} is {cancelled['state']}")


def _follow(given: dict[str, Any], *, quietly: bool) -> dict[str, Any]:
    """Show what becomes of a task until it is over; return it as it is then."""
    known, at, attempt = "", 0, 0
    while True:
        path = path_of("tasks", given["id"], output_from=at, known=known, wait_s=_WAIT_S)
        now: dict[str, Any] = ask("GET", path)
        told, output = f"{now['state']} {now['attempt']}", now["output"]
        if told != known and not now["is_over"] and not quietly:
            click.echo(f"task {now['id']} is {_whereabouts(now)}", err=True)
        known = told
        if now["attempt"] != attempt and at:
            at, attempt = (
                0,
                now["attempt"],
            )  # another attempt begins to speak: what was read is from its middle
            continue
        attempt = now["attempt"]
        if now["is_over"] and not output["text"]:
            return now
        if not quietly:
            _say(output, at)
        at = output["ends_at"]


def _say(output: dict[str, Any], expected_at: int) -> None:
    if output["starts_at"] > expected_at:
        click.echo("[… a piece is missing …]")
    click.echo(output["text"], nl=False)


def _whereabouts(given: dict[str, Any]) -> str:
    match given["state"]:
        case "waiting":
            return f"waiting for {given['hostname']}, until {given['expires_at']}"
        case "sent":
            return f"sent to {given['hostname']} (attempt {given['attempt']})"
        case state:
            return f"{state} on {given['hostname']}"


def _exit_as(ended: dict[str, Any]) -> None:
    sentence = f"task {ended['id']}: {task_sentence(ended)}"
    if ended["state"] == "done":
        click.echo(sentence, err=True)
        return
    if ended["state"] == "expired":
        raise Stop(Exit.UNREACHABLE, sentence)
    code = ended["exit_code"] or 0
    is_its_own = ended["state"] == "failed" and 0 < code <= _LARGEST_EXIT_CODE
    raise Stop(code if is_its_own else Exit.FAILED, sentence)
