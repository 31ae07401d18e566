"""Each single thing that an installation or its removal can do, as a value that can be said and done.

``--dry-run`` prints what ``str`` says of each, and the same values are what is then done: there is no second
description that could differ. None shows a secret. Each can be done again after it was cut short.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ct_ops_agent.errors import InstallationError
from ct_ops_agent.secret import Secret
from ct_ops_agent.service.belongings import belongs_to_agent
from ct_ops_agent.service.layout import UNIT, USER
from ct_ops_agent.service.machine import ROOT, Machine

_RESTART = ("systemctl", "restart", UNIT.name)


class Step(Protocol):
    """One thing that changes the host."""

    def __str__(self) -> str:
        """Say it, in the imperative."""

    def do(self, machine: Machine) -> None:
        """Do it.

        Raises:
            InstallationError: a program failed.
            OSError: a file cannot be changed.
        """


@dataclass(frozen=True)
class WriteFile:
    """A file gets this text, whole or not at all."""

    path: Path
    text: str = field(repr=False)
    mode: int = 0o644
    group: str = ""
    """Of the file; empty: root's."""

    def __str__(self) -> str:
        whose = f"root:{self.group}" if self.group else "root"
        return f"write {self.path} ({whose}, {self.mode:04o})"

    def do(self, machine: Machine) -> None:
        """Write it."""
        owner = machine.find_group(self.group) if self.group else ROOT
        machine.write(self.path, self.text, self.mode, owner)


@dataclass(frozen=True)
class WriteSecret:
    """A file gets a secret; what it says is never shown."""

    path: Path
    secret: Secret
    group: str = ""
    """Who may read it beside root; empty: nobody."""

    def __str__(self) -> str:
        whose = f"root:{self.group}, 0640" if self.group else "root, 0600"
        return f"write the enrolment token to {self.path} ({whose})"

    def do(self, machine: Machine) -> None:
        """Write it, into a folder that nobody else can look into."""
        owner = machine.find_group(self.group) if self.group else ROOT
        machine.make_folder(self.path.parent, 0o750 if self.group else 0o700, owner if self.group else None)
        machine.write(self.path, f"{self.secret.reveal()}\n", 0o640 if self.group else 0o600, owner)


@dataclass(frozen=True)
class CopyFolder:
    """A version comes onto the host."""

    source: Path
    path: Path

    def __str__(self) -> str:
        return f"copy {self.source} to {self.path}"

    def do(self, machine: Machine) -> None:
        """Copy it."""
        machine.copy_folder(self.source, self.path)


@dataclass(frozen=True)
class Link:
    """A name leads somewhere."""

    path: Path
    to: Path

    def __str__(self) -> str:
        return f"link {self.path} to {self.to}"

    def do(self, machine: Machine) -> None:
        """Link it, in place of what was there."""
        machine.link(self.path, self.to)


@dataclass(frozen=True)
class GiveFolder:
    """The agent's user gets a data directory that another user's agent has filled."""

    path: Path

    def __str__(self) -> str:
        return f"give {self.path} and the agent's files in it to {USER}"

    def do(self, machine: Machine) -> None:
        """Give it."""
        machine.give(self.path, machine.find_ids(USER))


@dataclass(frozen=True)
class MakeFolder:
    """A folder of the agent's user."""

    path: Path

    def __str__(self) -> str:
        return f"make {self.path} ({USER}, 0700)"

    def do(self, machine: Machine) -> None:
        """Make it."""
        machine.make_folder(self.path, 0o700, machine.find_ids(USER))


@dataclass(frozen=True)
class MakeUser:
    """The agent's user and group come to be."""

    words: tuple[str, ...]
    option: str
    """By which the program is told to work on an image."""

    def __str__(self) -> str:
        return f"make the user {USER} ({self.words[0]})"

    def do(self, machine: Machine) -> None:
        """Make it, in the image and nowhere else if there is one."""
        program, *rest = self.words
        where = [f"{self.option}={machine.root}"] if machine.is_image else []
        machine.run([program, *where, *rest])


@dataclass(frozen=True)
class Remove:
    """Something goes."""

    path: Path
    what: str = ""
    """For people, where the path does not say it."""

    def __str__(self) -> str:
        return f"remove {self.path}" + (f" ({self.what})" if self.what else "")

    def do(self, machine: Machine) -> None:
        """Remove it."""
        machine.remove(self.path)


@dataclass(frozen=True)
class RemoveBelongings:
    """The agent's files in a data directory go, those too that it has made since somebody looked."""

    path: Path
    seen: tuple[str, ...]
    """Their names, for people."""

    def __str__(self) -> str:
        return f"remove the agent's files in {self.path}: {', '.join(self.seen)}"

    def do(self, machine: Machine) -> None:
        """Remove them, by name."""
        for found in machine.at(self.path).iterdir():
            if belongs_to_agent(found.name):
                machine.remove(self.path / found.name)


@dataclass(frozen=True)
class RemoveIfEmpty:
    """A folder goes when nothing is in it."""

    path: Path

    def __str__(self) -> str:
        return f"remove {self.path} if nothing else is in it"

    def do(self, machine: Machine) -> None:
        """Remove it."""
        machine.remove_if_empty(self.path)


@dataclass(frozen=True)
class Run:
    """A program of the host does it."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"run {' '.join(self.words)}"

    def do(self, machine: Machine) -> None:
        """Run it."""
        machine.run(self.words)


@dataclass(frozen=True)
class Restart:
    """The agent starts, anew if it runs. That it does not come up is told by what comes of it, and why."""

    def __str__(self) -> str:
        return f"run {' '.join(_RESTART)}"

    def do(self, machine: Machine) -> None:
        """Start it, and wait until it is ready or has failed."""
        with suppress(InstallationError):
            machine.run(_RESTART)


@dataclass(frozen=True)
class RemoveUser:
    """The agent's user and group go."""

    def __str__(self) -> str:
        return f"remove the user {USER}"

    def do(self, machine: Machine) -> None:
        """Remove it, in the image and nowhere else if there is one."""
        where = [f"--prefix={machine.root}"] if machine.is_image else []
        machine.run(["userdel", *where, USER])
