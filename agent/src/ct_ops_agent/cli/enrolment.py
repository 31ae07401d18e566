"""``ct-ops-agent enrolment``: what is left of the way in."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ct_ops_agent.cli.configuration import config_option, load
from ct_ops_agent.cli.exits import errors_as_exits
from ct_ops_agent.cli.identity import open_identity
from ct_ops_agent.config.forget_token import forget_token as forget_in_file
from ct_ops_agent.config.load import CREDENTIAL_NAME, Flags
from ct_ops_agent.config.schema import DEFAULT_FILE
from ct_ops_agent.service.layout import CREDENTIAL, OLD_CREDENTIAL

_VARIABLES = ("CT_OPS_ENROLMENT_TOKEN", "CT_OPS_ORG_TOKEN")


@click.group()
def enrolment() -> None:
    """What is left of the way in."""


@enrolment.command("forget-token")
@config_option
def forget_token(*, config_file: Path | None) -> None:
    """Remove the enrolment token of an enrolled host from its configuration file and the credential store."""
    elsewhere = other_sources()  # before the configuration is loaded, which takes the token out
    config = load(Flags(config_file=config_file))
    path = config_file or DEFAULT_FILE
    with errors_as_exits():
        open_identity(config.data_dir)
        done = forget_in_file(path)
    click.echo(f"removed from {path}" if done.removed else f"{path} holds no enrolment token")
    forget_credentials()
    if done.left_in_comment:
        click.echo(f"warning: a comment in {path} still holds one; remove it by hand", err=True)
    for source in elsewhere:
        click.echo(f"warning: it also comes from {source}, which cannot be changed from here", err=True)


def forget_credentials(places: tuple[Path, ...] = (CREDENTIAL, OLD_CREDENTIAL)) -> None:
    """Remove the files from which the service is given a token; systemd does without."""
    for place in places:
        try:
            place.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            click.echo(f"warning: {place} cannot be removed: {error.strerror}; do it as root", err=True)
        else:
            click.echo(f"removed {place}")


def other_sources() -> list[str]:
    """Return where else an enrolment token is given to processes like this one."""
    found = [f"the environment ({name})" for name in _VARIABLES if os.environ.get(name)]
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory and (Path(directory) / CREDENTIAL_NAME).exists():
        found.append(f"the systemd credential {CREDENTIAL_NAME}")
    return found
