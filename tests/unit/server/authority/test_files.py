"""Private files are whole, 0600 and never reached through a symlink."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ct_ops_server.authority import files
from ct_ops_server.authority.errors import AuthorityError


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_private_file_is_0600_whatever_the_umask(tmp_path: Path) -> None:
    """A private file is readable by its owner only, also under a careless umask."""
    old = os.umask(0)
    try:
        created = files.create_private(tmp_path / "key", b"content")
        files.replace_private(tmp_path / "cert", b"content")
    finally:
        os.umask(old)

    assert created
    assert 0o600 == _mode(tmp_path / "key")
    assert 0o600 == _mode(tmp_path / "cert")
    assert b"content" == files.load_private(tmp_path / "key")


def test_create_never_overwrites(tmp_path: Path) -> None:
    """Of two processes that create the same key, the second finds the first one's."""
    assert files.create_private(tmp_path / "key", b"first")
    assert not files.create_private(tmp_path / "key", b"second")

    assert b"first" == files.load_private(tmp_path / "key")


def test_nothing_is_left_beside_a_written_file(tmp_path: Path) -> None:
    """Temporary files do not outlive the write, whether it took the name or not."""
    files.create_private(tmp_path / "key", b"first")
    files.create_private(tmp_path / "key", b"second")
    files.replace_private(tmp_path / "key", b"third")

    assert ["key"] == [path.name for path in tmp_path.iterdir()]
    assert b"third" == files.load_private(tmp_path / "key")


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails before the rename, the old file is still whole and the error names it."""
    path = tmp_path / "key"
    files.create_private(path, b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(AuthorityError, match="No space left"):
        files.replace_private(path, b"new")

    assert b"old" == path.read_bytes()
    assert ["key"] == [entry.name for entry in tmp_path.iterdir()]


def test_attack_a_planted_symlink_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    """Whoever plants a symlink in place of our file gains nothing."""
    (tmp_path / "target").write_bytes(b"theirs")
    link = tmp_path / "key"
    link.symlink_to(tmp_path / "target")

    for visit in (files.load_private, lambda path: files.replace_private(path, b"ours")):
        with pytest.raises(AuthorityError, match="is a symlink"):
            visit(link)

    assert b"theirs" == (tmp_path / "target").read_bytes()


def test_a_file_the_operator_named_may_be_a_symlink(tmp_path: Path) -> None:
    """Certificates of ACME clients and mounted secrets are symlinks, and are read."""
    (tmp_path / "target").write_bytes(b"certificate")
    (tmp_path / "named").symlink_to(tmp_path / "target")

    assert b"certificate" == files.load_named(tmp_path / "named")


def test_creating_in_place_of_a_dangling_symlink_is_refused(tmp_path: Path) -> None:
    """A symlink to nothing ends in an error, not in an endless search for who was faster."""
    (tmp_path / "named").symlink_to(tmp_path / "missing")

    with pytest.raises(AuthorityError, match="symlink to nothing"):
        files.create_private(tmp_path / "named", b"key")


def test_a_loose_mode_is_tightened_when_reading(tmp_path: Path) -> None:
    """A key of ours that somebody made readable for all is 0600 again after the next start."""
    path = tmp_path / "key"
    path.write_bytes(b"key")
    path.chmod(0o644)

    files.load_private(path)

    assert 0o600 == _mode(path)


@pytest.mark.parametrize("kind", ["fifo", "directory", "huge"])
def test_what_is_no_ordinary_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A FIFO does not hang the start, and a directory or an endless file is an error with its path."""
    path = tmp_path / "key"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            path.write_bytes(bytes(files.MAX_BYTES + 1))

    with pytest.raises(AuthorityError, match=str(path)):
        files.load_private(path)


def test_a_missing_file_is_nothing(tmp_path: Path) -> None:
    """Loading may find nothing."""
    assert files.load_private(tmp_path / "key") is None
    assert files.load_named(tmp_path / "key") is None


def test_the_data_directory_is_0700(tmp_path: Path) -> None:
    """A new data directory is closed to others, and an open one is closed."""
    fresh, loose = tmp_path / "a" / "b", tmp_path / "loose"
    loose.mkdir(mode=0o755)

    files.open_private_directory(fresh)
    files.open_private_directory(loose)

    assert 0o700 == _mode(fresh)
    assert 0o700 == _mode(loose)


@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_a_data_directory_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    """A symlink or a file in place of the data directory is an error that says what to do."""
    path = tmp_path / "data"
    if kind == "symlink":
        (tmp_path / "real").mkdir()
        path.symlink_to(tmp_path / "real")
    else:
        path.write_bytes(b"")

    with pytest.raises(AuthorityError, match="INGEST_DATA_DIR"):
        files.open_private_directory(path)
