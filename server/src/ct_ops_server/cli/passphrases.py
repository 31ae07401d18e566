"""The passphrase of a backup: from a file, systemd, the environment or a terminal, and never from an argument.

What is in the arguments or the environment of a process, other programs of its user can read: so there is no option
that takes the passphrase itself, and the variable is removed at once, before anything is started.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

import click

from ct_ops_server.cli.exits import Exit, Stop

VARIABLE = "CT_OPS_BACKUP_PASSPHRASE"
CREDENTIAL = "backup-passphrase"
MIN_CHARACTERS = 12

_LARGEST_FILE = 4096


def read_passphrase(
    file: Path | None, *, new: bool, environment: MutableMapping[str, str] = os.environ
) -> bytes:
    """Return the passphrase: of ``file``, else of systemd's credentials, else of the environment, else typed.

    Args:
        file: whose first line it is.
        new: it will encrypt: a short one is refused, and who types it types it twice.
        environment: loses the variable.

    Raises:
        Stop: there is none, or a new one is too short.
    """
    said = environment.pop(VARIABLE, "")
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    credential = Path(credentials, CREDENTIAL) if credentials else None
    if file is not None:
        passphrase = _first_line(file)
    elif credential is not None and credential.is_file():
        passphrase = _first_line(credential)
    else:
        passphrase = said or _ask(new=new)
    if new and len(passphrase) < MIN_CHARACTERS:
        raise Stop(
            Exit.USAGE,
            f"the passphrase has fewer than {MIN_CHARACTERS} characters: take a random one (openssl rand -base64 24), "
            "and keep it where this host is not",
        )
    return passphrase.encode()


def _first_line(file: Path) -> str:
    try:
        with file.open("rb") as content:
            lines = content.read(_LARGEST_FILE).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(Exit.USAGE, f"{file} cannot be read as a passphrase: {error}") from error
    if not lines or not lines[0]:
        raise Stop(Exit.USAGE, f"{file} is empty: its first line is the passphrase")
    return lines[0]


def _ask(*, new: bool) -> str:
    if not os.isatty(0):
        raise Stop(
            Exit.USAGE, f"there is no passphrase: name its file with --passphrase-file, or set {VARIABLE}"
        )
    return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True))
