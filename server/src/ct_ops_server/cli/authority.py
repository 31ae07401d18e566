"""``ct-ops-server ca``: which agent CAs and token keys there are, the next step of a rotation, foreign agent CAs.

There is one step that can follow, and one that undoes the latest, so a rotation is the same command three times.
Each time it says what it is about to do and asks.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ct_ops_server.cli.asking import ask, path_of, signed
from ct_ops_server.cli.authority_output import hurry_text, overview_text, plan_text
from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.cli.output import print_json
from ct_ops_server.cli.server_ca import server_ca, server_ca_text
from ct_ops_server.config.load import load_settings
from ct_ops_server.ownership import become_owner, owned

_STEPS = (
    "prepare",
    "activate",
    "retire",
    "discard",
    "go-back",
)  # authority.life_cycle.Step, which is heavy here
_HURRY = (
    "Agents renew one after the other, at most 20 a minute. An existing agent exits for it and is started again by its "
    "service manager 5 s later; on Windows and with a task under way it is left alone."
)
_PATIENCE_S = 10.0
_LONGEST = 256 * 1024  # what the admin API takes
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def ca() -> None:
    """Look after the agent CA, which signs agents' certificates, and the key of agent tokens."""


ca.add_command(server_ca)


@ca.command()
@_json
def status(*, as_json: bool) -> None:
    """Show every agent CA and token key: its state, its dates, and how many agents have a leaf of it."""
    found = ask("GET", path_of("authority"))
    found["hurry"] = ask("GET", path_of("hurry"))["hurry"]
    found["server_ca"] = ask("GET", path_of("server-ca"))
    if as_json:
        print_json(found)
        return
    texts = [overview_text(found), server_ca_text(found["server_ca"], datetime.now(UTC))]
    click.echo("\n\n".join([*texts, *([hurry_text(found["hurry"])] if found["hurry"] else [])]))


@ca.command()
@click.option("--jwt", is_flag=True, help="The key of agent tokens instead of the agent CA.")
@click.option("--back", is_flag=True, help="Undo the latest step instead of taking the next.")
@click.option("--step", type=click.Choice(_STEPS), help="Only if it is this one that can be taken now.")
@click.option(
    "--cert", type=_FILE, help="When one is prepared: your own CA, with its chain up to the root (PEM)."
)
@click.option("--key", type=_FILE, help="The private key of --cert (PEM).")
@click.option(
    "--force", is_flag=True, help="Although something speaks against it, as far as that is possible."
)
@click.option(
    "--hurry/--stop-hurry",
    "hurry",
    default=None,
    help="Take no step: make agents renew now that have no certificate of the active agent CA, or stop that.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
def rotate(
    *,
    jwt: bool,
    back: bool,
    step: str | None,
    cert: Path | None,
    key: Path | None,
    force: bool,
    hurry: bool | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Take the next step of a rotation: prepare the next agent CA, activate it, retire the one before.

    Says what it will do and asks. Between activating and retiring leave agents the time to renew, a hundred days
    at most: `ca status` shows how many have. Until then `--back` undoes a step.
    """
    _must_agree(jwt=jwt, brings=cert is not None or key is not None, back=back, hurry=hurry is not None)
    if hurry is not None:
        _hurry(go=hurry, yes=yes, as_json=as_json)
        return
    brought = _brought(cert, key)
    kind = "jwt" if jwt else "ca"
    plan = ask("GET", path_of("authority", kind, "next", back="true" if back else None))
    if step not in {None, plan["step"]}:
        raise Stop(Exit.FAILED, f"the step that can be taken now is to {plan['step']}, not to {step}")
    if not as_json:
        click.echo(plan_text(plan), err=True)
    _must_be_allowed(plan, force=force)
    if not yes:
        click.confirm("Go on?", abort=True, err=True)
    body = signed({"version": plan["version"], "force": force, **brought})
    done = ask("POST", path_of("authority", kind, plan["step"]), body)
    print_json(done) if as_json else click.echo(f"done: {done['step']}; see `ct-ops-server ca status`")


def _hurry(*, go: bool, yes: bool, as_json: bool) -> None:
    if go and not yes:
        click.echo(_HURRY, err=True)
        click.confirm("Go on?", abort=True, err=True)
    done = ask("POST", path_of("hurry") if go else path_of("hurry", "stop"), signed({}))["hurry"]
    print_json(done) if as_json else click.echo(hurry_text(done))


@ca.command()
@click.argument("file", type=_FILE)
@_json
def recognise(*, file: Path, as_json: bool) -> None:
    """Let leaves of a foreign agent CA prove their agents' keys: FILE is its certificate (an agent's agent_ca.pem).

    Its agents are not let in by that: they register as anybody does, and are recognised by their keys.
    """
    done = ask("POST", path_of("recognised-authorities"), signed({"pem": _text(file)}))
    if as_json:
        print_json(done)
        return
    names = done["recognised"]
    for name in names:
        click.echo(f"agent CA {name[:16]} is recognised")
    if not names:
        click.echo("every agent CA in this file is known already")


@ca.command("replace-lost")
@click.option("--jwt", is_flag=True, help="The key of agent tokens instead of the agent CA.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def replace_lost(*, jwt: bool, yes: bool) -> None:
    """Let another agent CA sign because the private key of the active one is lost for good. No server may run.

    A new one is made and kept sealed in the database. What the lost one has signed stays good: `ca rotate` retires
    it later. Refused when the key is at hand, and while a server runs on this database, which has it.
    """
    from ct_ops_server.authority.life_cycle import Kind  # noqa: PLC0415 - keeps others light
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415
    from ct_ops_server.core import replace_lost_key  # noqa: PLC0415

    if not yes:
        click.confirm("The key that is lost signs nothing ever again. Go on?", abort=True, err=True)
    who = actor()  # before another user is become
    with errors_as_exits():
        settings = load_settings(os.environ)
        become_owner(settings.data_dir)
        with owned(settings.data_dir, patience_s=_PATIENCE_S):
            name = asyncio.run(replace_lost_key(settings, Kind.JWT if jwt else Kind.CA, actor=who))
    click.echo(f"{'key' if jwt else 'agent CA'} {name[:16]} signs from now on; start the server")


def _must_agree(*, jwt: bool, brings: bool, back: bool, hurry: bool) -> None:
    """Refuse what contradicts itself, before anybody believes that all of it was done."""
    if not brings:
        return
    if jwt:
        raise click.UsageError(
            "--cert and --key bring an agent CA, and --jwt is about the key of agent tokens: leave out one of the two"
        )
    if back or hurry:
        raise click.UsageError("--cert and --key belong to preparing an agent CA, not to --back or --hurry")


def _brought(cert: Path | None, key: Path | None) -> dict[str, str]:
    if cert is None and key is None:
        return {}
    if cert is None or key is None:
        raise click.UsageError("--cert and --key belong together")
    return {"certificates": _text(cert), "private_key": _text(key)}


def _text(file: Path) -> str:
    """Return what a PEM file holds; there may be remarks in it, in any encoding."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise Stop(Exit.USAGE, f"{file} cannot be read ({error.strerror})") from error
    if len(content) > _LONGEST:
        raise Stop(
            Exit.USAGE,
            f"{file} is longer than 256 KiB: a whole trust store? Name the file of the one CA that is meant",
        )
    return content.decode("utf-8", "replace")


def _must_be_allowed(plan: dict[str, Any], *, force: bool) -> None:
    """Stop before asking: the server would refuse it."""
    against = [each for each in plan["objections"] if not (force and each["can_be_forced"])]
    if not against:
        return
    way_out = ", or --force it" if all(each["can_be_forced"] for each in against) else ""
    raise Stop(Exit.FAILED, f"not done: wait and ask again{way_out}")
