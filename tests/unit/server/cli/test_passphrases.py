"""Where the passphrase of a backup comes from, and where it never does."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from ct_ops_server.cli.passphrases import read_passphrase
from ct_ops_server.cli.root import main

LONG = "correct horse battery"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(f"{LONG}\nsecond line\n")
    return path


def test_a_named_file_goes_before_the_environment_which_loses_the_variable(file: Path) -> None:
    """Nothing that is started later inherits it."""
    environment = {"CT_OPS_BACKUP_PASSPHRASE": "of the environment"}

    assert LONG.encode() == read_passphrase(file, new=True, environment=environment)
    assert environment == {}


def test_a_credential_of_systemd_is_found_by_itself(tmp_path: Path) -> None:
    """``LoadCredential=backup-passphrase:…``."""
    (tmp_path / "backup-passphrase").write_text(LONG)

    assert LONG.encode() == read_passphrase(
        None, new=True, environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}
    )


def test_the_environment_is_asked_before_the_terminal() -> None:
    """A timer has none."""
    environment = {"CT_OPS_BACKUP_PASSPHRASE": LONG}

    assert LONG.encode() == read_passphrase(None, new=True, environment=environment)


def test_a_short_passphrase_makes_no_backup_but_opens_one() -> None:
    """It would be guessed, scrypt or not; a backup that has one all the same must be restorable."""
    with pytest.raises(click.ClickException, match="fewer than 12"):
        read_passphrase(None, new=True, environment={"CT_OPS_BACKUP_PASSPHRASE": "short"})

    assert b"short" == read_passphrase(None, new=False, environment={"CT_OPS_BACKUP_PASSPHRASE": "short"})


@pytest.mark.parametrize("content", [b"", b"\nsecond line", b"\xff\xfe"])
def test_a_file_without_a_passphrase_is_named(tmp_path: Path, content: bytes) -> None:
    """An empty first line is a mistake, not a passphrase."""
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    with pytest.raises(click.ClickException, match="passphrase"):
        read_passphrase(path, new=True, environment={})


def test_no_option_takes_the_passphrase_itself() -> None:
    """Every user of a host can read the arguments of every process."""
    group = main.get_command(click.Context(main), "db")
    assert isinstance(group, click.Group)
    options = {name for command in group.commands.values() for each in command.params for name in each.opts}

    assert "--passphrase-file" in options
    assert not options & {"--passphrase", "--password", "-p"}
