"""The data directory is closed to others, locked, and written whole."""

import os
from pathlib import Path

import pytest

from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.identity.files import load_file, locked_directory, write_file, write_new_file


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    """Made 0700, with its parents."""
    with locked_directory(tmp_path / "a" / "b"):
        assert 0o700 == mode_of(tmp_path / "a" / "b")


def test_a_directory_that_others_can_read_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Installers of existing agents make it 0755."""
    directory = tmp_path / "agent"
    directory.mkdir(mode=0o755)

    with locked_directory(directory):
        assert 0o700 == mode_of(directory)
    assert "could be read by others (mode 0755)" in caplog.text


def test_a_second_agent_is_kept_out_until_the_first_is_gone(tmp_path: Path) -> None:
    """The lock is held for the life of the agent, and goes with it."""
    with (
        locked_directory(tmp_path),
        pytest.raises(DataDirectoryError, match="in use"),
        locked_directory(tmp_path),
    ):
        pass

    with locked_directory(tmp_path):
        pass


def test_a_directory_that_is_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    """Attack: the agent's directory is not somewhere else than it says."""
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()

    for name, said in (("link", "symbolic link"), ("file", "cannot open")):
        with pytest.raises(DataDirectoryError, match=said), locked_directory(tmp_path / name):
            pass


def test_a_file_is_born_private_and_replaced_whole(tmp_path: Path) -> None:
    """Mode 0600 from the first byte, nothing left beside it."""
    file = tmp_path / "state"

    write_file(file, "one")
    write_file(file, "two")

    assert ("two", 0o600, [file]) == (load_file(file), mode_of(file), list(tmp_path.iterdir()))


def test_what_a_crash_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    """A temporary file of an earlier process with the same number."""
    (tmp_path / f".state.{os.getpid()}.new").write_text("half")

    write_file(tmp_path / "state", "whole")

    assert ["state"] == [path.name for path in tmp_path.iterdir()]


def test_a_new_file_never_replaces_another(tmp_path: Path) -> None:
    """A private key that exists stays."""
    write_new_file(tmp_path / "key", "first")

    with pytest.raises(DataDirectoryError, match="File exists"):
        write_new_file(tmp_path / "key", "second")

    assert ("first", 1) == (load_file(tmp_path / "key"), len(list(tmp_path.iterdir())))


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Gone meanwhile, full, read-only: a sentence, not a traceback."""
    with pytest.raises(DataDirectoryError, match="cannot write"):
        write_file(tmp_path / "gone" / "state", "text")


def test_a_file_that_others_can_read_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key file that was copied carelessly is used, closed, and told."""
    file = tmp_path / "key"
    file.write_text("text")
    file.chmod(0o644)

    assert ("text", 0o600) == (load_file(file), mode_of(file))
    assert "could be read by others" in caplog.text


def test_a_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Attack: a link in the place of a key is not followed."""
    (tmp_path / "real").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(DataDirectoryError, match="symbolic link"):
        load_file(tmp_path / "link")


def test_a_pipe_or_a_binary_is_refused(tmp_path: Path) -> None:
    """Attack: what would block or confuse the agent is not read."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")

    for name in ("directory", "pipe"):
        with pytest.raises(DataDirectoryError, match="no regular file"):
            load_file(tmp_path / name)
    with pytest.raises(DataDirectoryError, match="no text file"):
        load_file(tmp_path / "binary")


def test_an_absent_file_is_nothing(tmp_path: Path) -> None:
    """Loading may find nothing."""
    assert load_file(tmp_path / "absent") is None
