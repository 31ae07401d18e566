"""The archive of a support bundle, and its manifest."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from ct_ops_agent.support.archive import gather, manifest, write_archive
from ct_ops_agent.support.masking import Masking


def broken() -> str:
    raise OSError("the disk says secret-word")


def test_a_part_that_fails_costs_itself_only() -> None:
    """A bundle is made when something is wrong, and says what it is without."""
    files, failed = gather({"a.txt": lambda: "x secret-word", "b.txt": broken}, Masking(["secret-word"]))

    assert {"a.txt": b"x <hidden>"} == files
    assert {"b.txt": "OSError: the disk says <hidden>"} == failed


def test_the_manifest_says_what_is_there_and_what_is_not() -> None:
    """With the digest of each file."""
    document = json.loads(manifest({"a": b"x"}, {"b": "why"}, {"agent": "1"}, 0))

    assert {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()} == document["files"]["a"]
    assert ({"b": "why"}, "1970-01-01T00:00:00Z") == (document["could_not_be_had"], document["made_at"])


def test_the_archive_is_its_owners_alone_and_replaces_nothing(tmp_path: Path) -> None:
    """It holds no secret, and still is nobody else's business."""
    path = tmp_path / "bundle.tar.gz"
    write_archive(path, "folder", {"a": b"x"}, 0)

    assert 0o600 == path.stat().st_mode & 0o777
    with pytest.raises(FileExistsError):
        write_archive(path, "folder", {"a": b"y"}, 0)
    with tarfile.open(path) as tar:
        assert ["folder/a"] == tar.getnames()
    assert [path] == list(tmp_path.iterdir())
