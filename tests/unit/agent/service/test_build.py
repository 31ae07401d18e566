"""The unpacked folder, and what it needs of a host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ct_ops_agent.errors import InstallationError
from ct_ops_agent.service.build import (
    Build,
    Library,
    content_digest,
    library_complaint,
    library_in,
    own_folder,
    read_build,
)
from fakes.recording_host import make_build

BUILD = Build("ct-ops-agent", "1.0.0", "amd64", "2.31")


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    """By the file that was written when it was made."""
    assert ("1.2.3", (2, 31)) == (
        (build := read_build(make_build(tmp_path / "a", "1.2.3"))).version,
        build.floor,
    )


@pytest.mark.parametrize(
    "change",
    [{"version": "../../etc"}, {"version": ""}, {"name": "other"}, {"glibc_floor": "new"}, {"version": None}],
)
def test_a_folder_that_says_something_odd_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    """The version becomes the name of a folder of root's."""
    folder = make_build(tmp_path / "a")
    description = json.loads((folder / "BUILD.json").read_text())
    (folder / "BUILD.json").write_text(json.dumps(description | change))

    with pytest.raises(InstallationError, match="is no unpacked agent"):
        read_build(folder)


def test_a_python_installation_is_not_installed_as_a_service() -> None:
    """It is whoever's who made it; the unit alone can be had."""
    with pytest.raises(InstallationError, match="ct-ops-agent unit"):
        own_folder()


@pytest.mark.parametrize(
    ("version", "is_fine"), [((2, 31), True), ((2, 36), True), ((2, 30), False), (None, True)]
)
def test_the_c_library_has_to_be_new_enough(version: tuple[int, int] | None, *, is_fine: bool) -> None:
    """One that cannot be told is not refused."""
    assert is_fine == (library_complaint(BUILD, Library(version=version)) == "")


def test_the_c_library_of_an_image_is_read_from_the_image(tmp_path: Path) -> None:
    """Not that of the host that builds it."""
    folder = tmp_path / "lib" / "x86_64-linux-gnu"
    folder.mkdir(parents=True)
    (folder / "libc.so.6").write_bytes(
        b"\x7fELF..GNU C Library (Debian GLIBC 2.28-10) stable release version 2.28.\n"
    )

    assert Library(version=(2, 28)) == library_in(tmp_path)


def test_an_image_with_musl_is_told_from_one_without_a_library(tmp_path: Path) -> None:
    """Alpine, and a folder that is no image yet."""
    before = library_in(tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "ld-musl-x86_64.so.1").touch()

    assert (Library(), Library(is_musl=True)) == (before, library_in(tmp_path))


def test_the_digest_sees_content_kind_and_permission_to_run(tmp_path: Path) -> None:
    """And not when a file was written."""
    one, same = make_build(tmp_path / "one"), make_build(tmp_path / "same")
    assert content_digest(one) == content_digest(same)

    (same / "ct-ops-agent").chmod(0o644)
    assert content_digest(one) != content_digest(same)
