"""The outbox's file, and what is wrong with it."""

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from ct_ops_agent.clock import Clock
from ct_ops_agent.delivery.draft import Room
from ct_ops_agent.delivery.entries import Codec
from ct_ops_agent.delivery.opening import FILE_NAME, DamagedError, open_file
from ct_ops_agent.delivery.space import Limits
from ct_ops_agent.delivery.vault import DAMAGED, Vault
from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.transport.convert_items import ItemCodec
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

CODEC: Codec = ItemCodec()


def open_vault(directory: Path) -> Vault:
    return Vault(
        directory, codec=CODEC, limits=Limits(2**26, 2**40), clock=Clock(), new_id=lambda: os.urandom(16)
    )


def gap_reasons(vault: Vault) -> list[str]:
    batch = vault.do(lambda outbox: outbox.next_batch(Room(10_000, 10_000), 2**42, with_samples=True))
    return [gap.reason for gap in pb.BatchBody.FromString(batch.payload).gaps] if batch else []


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """And so are the files that SQLite keeps beside it."""
    opened = open_file(tmp_path)
    opened.connection.execute("CREATE TABLE t (x)")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    opened.connection.close()

    assert {0o600} == set(modes.values()), modes
    assert FILE_NAME in modes


def test_a_file_that_others_can_read_is_closed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning."""
    open_vault(tmp_path).close()
    (tmp_path / FILE_NAME).chmod(0o644)
    open_vault(tmp_path).close()

    assert 0o600 == stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode)
    assert "could be read by others" in caplog.text


@pytest.mark.parametrize("name", [FILE_NAME, FILE_NAME + "-wal", FILE_NAME + "-journal"])
def test_attack_a_planted_link_is_not_followed(tmp_path: Path, name: str) -> None:
    """Whoever can plant one could have the agent write into another file."""
    target = tmp_path / "target"
    target.write_text("precious")
    directory = tmp_path / "agent"
    directory.mkdir()
    (directory / name).symlink_to(target)

    with pytest.raises(DataDirectoryError, match="symbolic link"):
        open_vault(directory)
    assert "precious" == target.read_text()


def test_a_pipe_in_its_place_does_not_hang_the_agent(tmp_path: Path) -> None:
    """It is refused like everything that is no file."""
    os.mkfifo(tmp_path / FILE_NAME)

    with pytest.raises(DataDirectoryError, match="no regular file"):
        open_vault(tmp_path)


@pytest.mark.parametrize("damage", ["garbage", "cut off", "overwritten in the middle"])
def test_a_damaged_file_is_set_aside_and_said(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A new outbox begins, and its first batch says that there was one."""
    vault = open_vault(tmp_path)
    before = vault.position.outbox_id
    vault.close()
    file = tmp_path / FILE_NAME
    whole = file.read_bytes()
    file.write_bytes(
        {
            "garbage": b"garbage" * 1000,
            "cut off": whole[: len(whole) // 2],
            "overwritten in the middle": whole[:4096] + os.urandom(8192) + whole[12288:],
        }[damage]
    )

    vault = open_vault(tmp_path)
    reasons = gap_reasons(vault)
    vault.close()

    assert [DAMAGED] == reasons
    assert before != vault.position.outbox_id
    assert (tmp_path / "outbox.damaged").exists()
    assert "is damaged" in caplog.text


def test_a_file_of_a_later_version_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An agent that was taken back to an earlier version does not guess what is in it."""
    open_vault(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    vault = open_vault(tmp_path)
    reasons = gap_reasons(vault)
    vault.close()
    assert [DAMAGED] == reasons
    assert "a later version of the agent made it" in caplog.text


def test_a_file_that_turns_out_damaged_at_work_is_set_aside_as_well(tmp_path: Path) -> None:
    """The step that found it is done on the new one."""
    vault = open_vault(tmp_path)
    before = vault.position.outbox_id
    file = tmp_path / FILE_NAME
    vault.do(lambda outbox: outbox.put([], durable=True))

    def fail_once(_outbox: object, told: list[int] = []) -> str:  # noqa: B006 - remembers that it was called
        told.append(1)
        if len(told) == 1:
            raise DamagedError("database disk image is malformed")
        return "done"

    assert "done" == vault.do(fail_once)
    assert before != vault.position.outbox_id
    assert [DAMAGED] == gap_reasons(vault)
    vault.close()
    assert file.exists()


def test_a_second_agent_cannot_use_it(tmp_path: Path) -> None:
    """The connection owns the file, also when somebody circumvents the lock of the directory."""
    opened = open_file(tmp_path)
    opened.connection.execute("CREATE TABLE t (x)")
    other = sqlite3.connect(tmp_path / FILE_NAME, timeout=0)

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM sqlite_master").fetchall()
    other.close()
    opened.connection.close()
