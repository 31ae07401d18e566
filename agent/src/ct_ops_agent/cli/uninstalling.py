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
    "--root",
    "root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Take it off the root of an image.",
)
@click.option("--dry-run", "dry_run", is_flag=True, help="Print what would be done, and do nothing.")
def uninstall(*, keep_identity: bool = False, root: Path | None = None, dry_run: bool = False) -> None:
    """Take the agent off this host: what an installation put there, and nothing else."""
    with errors_as_exits():
        uninstall_as_asked(
            Machine((root or Path("/")).resolve()), keep_identity=keep_identity, dry_run=dry_run
        )


def uninstall_as_asked(machine: Machine, *, keep_identity: bool, dry_run: bool) -> None:
    """Uninstall.

    Raises:
        InstallationError: it cannot be done.
    """
    presence = look(machine)
    if found := list(complaints(presence, may_be_changed=machine.may_be_changed)):
        raise InstallationError("\n".join(found))
    if presence.is_empty:
        click.echo("no agent is installed here")
        return
    steps = plan_removal(presence, keep_identity=keep_identity, image=machine.is_image)
    agent_id = _agent_id(machine, presence.data_dir)  # as long as it is there
    if dry_run:
        for number, step in enumerate(steps, start=1):
            click.echo(f"{number:>3}. {step}")
    else:
        with only_one(machine):
            do_all(steps, machine, click.echo)
    for sentence in left_alone(presence, keep_identity=keep_identity):
        click.echo(f"left: {sentence}")
    if agent_id and not (dry_run or keep_identity or presence.installed.is_packaged):
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
