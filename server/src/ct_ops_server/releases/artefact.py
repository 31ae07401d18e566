"""Artefacts by their names: what each is for, and which one answers a request. Pure.

Names are those that existing servers use, and ours for archives::

    ct-ops-agent-linux-amd64                        a program, of a version that only itself knows
    ct-ops-agent-windows-amd64-v0.30.2.exe          a program of that version
    ct-ops-agent-linux-amd64-v0.1.0.tar.xz          an archive of our agent

Versions are ordered by what they mean (0.10 is above 0.9, 1.0-rc1 below 1.0), and the newest one is handed
out; a release candidate only when there is nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from packaging.version import InvalidVersion, Version

SYSTEMS = ("linux", "darwin", "windows")
ARCHITECTURES = ("amd64", "arm64")
_NAME = re.compile(
    r"ct-ops-agent-(?P<system>linux|darwin|windows)-(?P<architecture>amd64|arm64)"
    r"(?:-v(?P<version>[0-9][0-9A-Za-z.+-]*?))?(?P<ending>\.exe|\.tar\.gz|\.tar\.xz)?"
)


class Form(StrEnum):
    """How an artefact is packed."""

    PROGRAM = "program"
    """One executable file, which existing agents put in their own place."""
    TAR_GZ = "tar.gz"
    TAR_XZ = "tar.xz"


class ArtefactNameError(ValueError):
    """A file whose name says nothing to us."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """What a file on the shelf is, by its name."""

    file_name: str
    system: str
    architecture: str
    form: Form
    version: str | None
    """None: the name says none, and the program has to be asked."""

    @property
    def order(self) -> tuple[bool, bool, Version]:
        """Return what newer ones have more of: a version, a final one, a higher one."""
        number = Version(self.version or "0")
        return (self.version is not None, not number.is_prerelease, number)


def parse_file_name(name: str) -> Artefact:
    """Return what the name says.

    Raises:
        ArtefactNameError: nothing that we know; the text says what a name looks like.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ArtefactNameError(
            f"{name} is no name of an artefact: ct-ops-agent-OS-ARCH-vVERSION, then .tar.xz, .tar.gz or nothing "
            f"(.exe on windows), with OS one of {', '.join(SYSTEMS)} and ARCH one of {', '.join(ARCHITECTURES)}"
        )
    if (found["ending"] == ".exe") != (found["system"] == "windows" and not _is_archive(found["ending"])):
        raise ArtefactNameError(f"{name}: programs for windows end with .exe, and only they do")
    return Artefact(
        name,
        found["system"],
        found["architecture"],
        _form(found["ending"]),
        _known_version(name, found["version"]),
    )


def newest(artefacts: Iterable[Artefact], *, system: str, architecture: str, form: Form) -> Artefact | None:
    """Return the newest artefact that fits, None when there is none."""
    fitting = [
        one for one in artefacts if (one.system, one.architecture, one.form) == (system, architecture, form)
    ]
    return max(fitting, key=lambda one: one.order, default=None)


def _is_archive(ending: str | None) -> bool:
    return ending in {".tar.gz", ".tar.xz"}


def _form(ending: str | None) -> Form:
    return Form(ending[1:]) if ending is not None and _is_archive(ending) else Form.PROGRAM


def _known_version(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        Version(text)
    except InvalidVersion as error:
        raise ArtefactNameError(f"{name}: {text} is no version, like 0.30.2 or 1.0.0-rc.1") from error
    return text
