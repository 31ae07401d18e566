"""``ct-ops-agent uninstall``: take off what an installation put onto the host, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from ct_ops_agent.cli.exits import errors_as_exits
from ct_ops_agent.config.load import Flags, load_config
from ct_ops_agent.errors import ConfigError, DataDirectoryError, InstallationError
from ct_ops_agent.identity.credentials import CredentialStore
from ct_ops_agent.service import layout
from ct_ops_agent.service.doing import do_all, only_one
from ct_ops_agent.service.machine import Machine
from ct_ops_agent.service.removal import Presence, complaints, left_alone, plan_removal
from ct_ops_agent.service.survey import data_entries, has_user, look_at_installed, look_for_files


@click.command()
@click.option(
    "--keep-identity",
    "keep_identity",
    is_flag=True,
    help="Leave the data directory and the configuration: a later installation is the same agent.",
)
@click.option(
    "--deregister",
    "deregister",
    is_flag=True,
    help="Tell the server first that this host leaves: it revokes the agent. Not done: nothing is taken off.",
)
@click.option(
    "--root",
    "root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Take it off the root of an image.",
)
@click.option("--dry-run", "dry_run", is_flag=True, help="Print what would be done, and do nothing.")
def uninstall(
    *,
    keep_identity: bool = False,
    deregister: bool = False,
    root: Path | None = None,
    dry_run: bool = False,
) -> None:
    """Take the agent off this host: what an installation put there, and nothing else."""
    if deregister and keep_identity:
        raise click.UsageError(
            "--deregister gives the identity up, --keep-identity keeps it: choose one of them"
        )
    if deregister and root:
        raise click.UsageError("--deregister is for the host that the agent runs on, not for an image")
    with errors_as_exits():
        uninstall_as_asked(
            Machine((root or Path("/")).resolve()),
            keep_identity=keep_identity,
            dry_run=dry_run,
            deregister=deregister,
        )


def uninstall_as_asked(
    machine: Machine, *, keep_identity: bool, dry_run: bool, deregister: bool = False
) -> None:
    """Uninstall.

    Raises:
        InstallationError: it cannot be done.
        ConfigError, DataDirectoryError: there is no telling which agent of which server is to be deregistered.
    """
    presence = look(machine)
    if found := list(complaints(presence, may_be_changed=machine.may_be_changed)):
        raise InstallationError("\n".join(found))
    if presence.is_empty:
        click.echo("no agent is installed here")
        return
    steps = plan_removal(presence, keep_identity=keep_identity, image=machine.is_image)
    agent_id = _agent_id(machine, presence.data_dir)  # as long as it is there
    is_told = deregister and _told(machine, dry_run=dry_run)
    if dry_run:
        for number, step in enumerate(steps, start=1):
            click.echo(f"{number:>3}. {step}")
    else:
        with only_one(machine):
            do_all(steps, machine, click.echo)
    for sentence in left_alone(presence, keep_identity=keep_identity):
        click.echo(f"left: {sentence}")
    if agent_id and not (dry_run or keep_identity or is_told or presence.installed.is_packaged):
        click.echo(f"The server still knows this host; there, type: ct-ops-server agent delete {agent_id}")


def look(machine: Machine) -> Presence:
    """Return what there is to be removed."""
    data_dir = _data_dir(machine)
    return Presence(
        installed=look_at_installed(machine),
        data_dir=data_dir,
        data_entries=data_entries(machine, data_dir),
        files=look_for_files(machine),
        has_user=has_user(machine),
    )


def _told(machine: Machine, *, dry_run: bool) -> bool:
    """Tell the server that this host leaves; return whether nothing is left to be done there."""
    if dry_run:
        click.echo("  0. tell the server that this host leaves, by proof of its key")
        return True
    from ct_ops_agent.cli.leaving import say_goodbye  # noqa: PLC0415 - loads gRPC and cryptography

    goodbye = say_goodbye(machine)
    click.echo(goodbye.sentence)
    return goodbye.is_done


def _data_dir(machine: Machine) -> Path:
    """Return the data directory that is configured, the usual one when the configuration does not work."""
    file = machine.at(machine.follow(layout.CONFIGURATION))
    try:
        return load_config(Flags(config_file=file), {}).config.data_dir if file.exists() else layout.DATA
    except ConfigError:
        return layout.DATA


def _agent_id(machine: Machine, data_dir: Path) -> str:
    try:
        return CredentialStore(machine.at(data_dir)).load(None).agent_id
    except DataDirectoryError:
        return ""
