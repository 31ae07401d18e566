"""A host in a folder: its files are real, its programs are recorded, its users are made up."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from ct_ops_agent.errors import InstallationError
from ct_ops_agent.service.layout import CONFIGURATION, PROGRAM, UNIT
from ct_ops_agent.service.machine import ROOT, Ids, Machine

AGENT = Ids(990, 990)
"""The user ct-ops of such a host."""


class RecordingHost(Machine):
    """A host that runs, seen from an installation."""

    def __init__(self, root: Path, *, has_user: bool = False) -> None:
        super().__init__(root, owns=False)
        self.ran: list[list[str]] = []
        self.owners: dict[Path, Ids] = {}
        self.given: list[Path] = []
        self.fails: str = ""
        """A program whose calls fail."""

        self._has_user = has_user

    @property
    def is_image(self) -> bool:
        return False

    @property
    def may_be_changed(self) -> bool:
        return True

    def run(self, words: Sequence[str]) -> str:
        self.ran.append(list(words))
        if self.fails and self.fails in words:
            raise InstallationError(f"{' '.join(words)}: it does not work today")
        if words[0] in {"useradd", "systemd-sysusers"}:
            self._has_user = True
        if words[0] == "userdel":
            self._has_user = False
        return ""

    def find_ids(self, name: str) -> Ids:
        if not self._has_user:
            raise InstallationError(f"there is no user and group {name}")
        return AGENT

    def write(self, path: Path, text: str, mode: int, owner: Ids = ROOT) -> None:
        super().write(path, text, mode, owner)
        self.owners[path] = owner

    def give(self, path: Path, owner: Ids) -> None:
        self.given.append(path)
        self.owners[path] = owner

    def runs_version(self) -> str:
        """Return which version the host would run, by what its program says of itself."""
        target = self.at(PROGRAM).readlink()
        return str(json.loads((self.at(target).parent / "BUILD.json").read_text())["version"])

    def unit_can_read_configuration(self) -> bool:
        """Whether the agent that systemd would start now may read the file that it is told to read."""
        unit = self.at(UNIT)
        user = re.search(r"^User=(\S+)", unit.read_text(), re.MULTILINE) if unit.exists() else None
        if user is None:
            return True  # root
        mode = self.at(CONFIGURATION).stat().st_mode
        return self.owners.get(CONFIGURATION, ROOT).group == AGENT.group and bool(mode & 0o040)


def make_build(folder: Path, version: str = "1.0.0", *, content: str = "", floor: str = "2.31") -> Path:
    """Make what an unpacked agent looks like, in a folder."""
    (folder / "_internal").mkdir(parents=True)
    program = folder / "ct-ops-agent"
    program.write_text(f"#!/bin/sh\necho {version}{content}\n")
    program.chmod(0o755)
    (folder / "_internal" / "library.so").write_text("library")
    (folder / "_internal" / "same.so").symlink_to("library.so")
    description = {
        "name": "ct-ops-agent", "version": version, "architecture": "amd64", "glibc_floor": floor,
        "libc": "glibc", "os": "linux", "source_date_epoch": 0,
    }  # fmt: skip
    (folder / "BUILD.json").write_text(json.dumps(description))
    return folder
