"""Files on a stick: nobody else reads what is written, and nothing is overwritten that is no file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ct_ops_proto.carried_files import CarriedFileError, check_place, read_carried, write_carried


def test_a_file_is_written_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    """0600 whatever the umask; no temporary file is left."""
    before = os.umask(0)
    try:
        written = write_carried(tmp_path / "reply.json", "text")
    finally:
        os.umask(before)

    assert stat.S_IMODE(written.path.stat().st_mode) == 0o600
    assert not written.is_open_to_others
    assert read_carried(written.path, at_most=10) == b"text"
    assert list(tmp_path.iterdir()) == [written.path]


def test_attack_a_file_that_others_may_read_is_replaced_and_not_filled(tmp_path: Path) -> None:
    """Who opened it before the command ran reads nothing of the new one."""
    path = tmp_path / "reply.json"
    path.write_text("old")
    path.chmod(0o644)
    with path.open() as opened:
        write_carried(path, "secret")

        assert opened.read() == "old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_attack_a_symbolic_link_at_the_output_is_neither_followed_nor_replaced(tmp_path: Path) -> None:
    """What it leads to stays as it is, and the link too."""
    target, link = tmp_path / "shadow", tmp_path / "reply.json"
    target.write_text("precious")
    link.symlink_to(target)
    with pytest.raises(CarriedFileError, match="symbolic link"):
        write_carried(link, "text")

    assert target.read_text() == "precious"
    assert link.is_symlink()


def test_attack_a_dangling_link_creates_nothing(tmp_path: Path) -> None:
    """Root is not made to create a file elsewhere."""
    link = tmp_path / "reply.json"
    link.symlink_to(tmp_path / "cron.d")
    with pytest.raises(CarriedFileError):
        write_carried(link, "text")

    assert not (tmp_path / "cron.d").exists()


def test_a_folder_at_the_output_is_refused(tmp_path: Path) -> None:
    """The sentence says what to give instead."""
    with pytest.raises(CarriedFileError, match="give the name of the file"):
        write_carried(tmp_path, "text")


def test_a_place_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A stick that is not mounted."""
    with pytest.raises(CarriedFileError, match="cannot write"):
        write_carried(tmp_path / "stick" / "reply.json", "text")


def test_a_place_is_looked_at_before_anything_is_done(tmp_path: Path) -> None:
    """A link, a folder and a stick that is not there are found early; a file that is there is to be replaced."""
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_text("old")
    check_place(tmp_path / "file")
    check_place(tmp_path / "new")

    for place in (tmp_path / "link", tmp_path, tmp_path / "stick" / "reply.json"):
        with pytest.raises(CarriedFileError):
            check_place(place)


def test_attack_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Reading one would hang until somebody writes."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CarriedFileError, match="no regular file"):
        read_carried(tmp_path / "pipe", at_most=10)


def test_attack_of_an_endless_file_little_is_read(tmp_path: Path) -> None:
    """One byte more than the limit tells that it is too large."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(10 * 1024**3)

    assert len(read_carried(path, at_most=64)) == 65


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(CarriedFileError, match="cannot read"):
        read_carried(tmp_path / "none", at_most=10)
