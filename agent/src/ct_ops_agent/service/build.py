"""The unpacked folder: what it is, and what it needs of the host.

The folder says so itself (``BUILD.json``, written when it was made). A program that is too new for a host's C
library does not even start, so on the host itself this is told by the install script; here it matters for the
root of an image, which is another system than the one that runs the installation.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ct_ops_agent.errors import InstallationError
from ct_ops_agent.service.layout import NAME

DESCRIPTION = "BUILD.json"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~-]{0,63}")
_FLOOR = re.compile(r"\d{1,3}\.\d{1,3}")
_GLIBC = re.compile(rb"GNU C Library [^\n]{0,80}version (\d+)\.(\d+)")
_LIBRARY_FOLDERS = ("lib", "lib64", "usr/lib", "usr/lib64")


class Build(msgspec.Struct, frozen=True):
    """What is known of a frozen agent."""

    name: str
    version: str
    architecture: str
    glibc_floor: str
    os: str = "linux"
    libc: str = "glibc"

    @property
    def floor(self) -> tuple[int, int]:
        """The oldest C library it runs with."""
        major, _, minor = self.glibc_floor.partition(".")
        return int(major), int(minor)


@dataclass(frozen=True)
class Library:
    """The C library of a host."""

    is_musl: bool = False
    version: tuple[int, int] | None = None
    """``None``: not known, and then nothing is refused for it."""


def read_build(folder: Path) -> Build:
    """Return what a folder is.

    Raises:
        InstallationError: it is no frozen agent.
    """
    try:
        build = msgspec.json.decode((folder / DESCRIPTION).read_bytes(), type=Build)
    except (OSError, msgspec.DecodeError):
        build = None
    if build is None or not _is_sound(build) or not (folder / NAME).is_file():
        raise InstallationError(
            f"{folder} is no unpacked agent ({NAME} and {DESCRIPTION} in one folder); unpack "
            f"{NAME}-linux-<architecture>-v<version>.tar.gz and run ./{NAME} install from there"
        )
    return build


def _is_sound(build: Build) -> bool:
    """Whether its version can be a folder's name, and its floor be compared."""
    return (
        build.name == NAME
        and _VERSION.fullmatch(build.version) is not None
        and _FLOOR.fullmatch(build.glibc_floor) is not None
    )


def own_folder() -> Path:
    """Return the folder of the program that runs.

    Raises:
        InstallationError: a Python installation runs.
    """
    if not getattr(sys, "frozen", False):
        raise InstallationError(
            "this agent runs from a Python installation, which belongs to whoever made it; install from the "
            "unpacked folder of a release, or take the unit alone: ct-ops-agent unit"
        )
    return Path(sys.executable).resolve().parent


def library_complaint(build: Build, library: Library) -> str:
    """Return why a build cannot run with a C library, empty when it can."""
    if library.is_musl:
        return (
            "this host has musl, and the agent is built for glibc: use a host with glibc, "
            "or run the agent from a Python of this host (pip install ct-ops[agent])"
        )
    if library.version and library.version < build.floor:
        return (
            f"this host has glibc {library.version[0]}.{library.version[1]}, and this build of the agent needs "
            f"{build.glibc_floor} or later; use a newer host, or run the agent from a Python of this host"
        )
    return ""


def library_in(root: Path) -> Library:
    """Look at the C library under a root."""
    found = [version for file in _find(root, "libc.so.6") if (version := _version_of(file))]
    if found:
        return Library(version=max(found))
    return Library(is_musl=any(_find(root, "ld-musl-*.so.1")))


def content_digest(folder: Path) -> str:
    """Return what two folders with the same content have in common: names, kinds, which may be run, bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}\0{_kind(path)}\0".encode(errors="surrogateescape"))
        if path.is_symlink():
            digest.update(bytes(path.readlink()))
        elif path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _kind(path: Path) -> str:
    if path.is_symlink():
        return "link"
    if path.is_dir():
        return "folder"
    return "program" if path.stat().st_mode & 0o100 else "file"


def _find(root: Path, name: str) -> Iterator[Path]:
    for folder in _LIBRARY_FOLDERS:
        yield from (root / folder).glob(name)
        yield from (root / folder).glob(f"*-linux-gnu/{name}")


def _version_of(library: Path) -> tuple[int, int] | None:
    """Read the sentence that every glibc holds about itself."""
    try:
        found = _GLIBC.search(library.read_bytes())
    except OSError:  # a link that leads nowhere outside its image
        return None
    return (int(found[1]), int(found[2])) if found else None
