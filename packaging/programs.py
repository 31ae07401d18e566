"""The two programs that are packaged, and what differs between them.

Everything else about a package (layout, steps, archives) is the same for both, and written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program."""

    name: str
    role: str
    """Its part of every path: /usr/lib/ct-ops/ROLE, /var/lib/ct-ops/ROLE."""
    user: str
    summary: str
    description: str
    """A paragraph, in lines of at most 77 characters."""
    configuration: str
    """The configuration file's name under /etc/ct-ops."""
    sample: tuple[str, ...]
    """The words after the program's name that print the sample of it."""

    @property
    def unit(self) -> str:
        """The name of its systemd unit."""
        return f"{self.name}.service"

    def words(self) -> Mapping[str, str]:
        """Return what a recipe may name as ``@WORD@``."""
        return {
            "NAME": self.name,
            "ROLE": self.role,
            "USER": self.user,
            "UNIT": self.unit,
            "CONFIGURATION": self.configuration,
        }


AGENT = Program(
    name="ct-ops-agent",
    role="agent",
    user="ct-ops",
    summary="agent that reports this host to a CT-Ops server",
    description=(
        "Enrols this host with the CT-Ops server of its organisation, sends heartbeats\n"
        "with the host's vitals, runs collectors and checks, and keeps what it could not\n"
        "deliver. It needs no Python on the host: everything it uses comes with it."
    ),
    configuration="agent.toml",
    sample=("config", "create", "--stdout"),
)

SERVER = Program(
    name="ct-ops-server",
    role="server",
    user="ct-ops-server",
    summary="server that the CT-Ops agents of an organisation report to",
    description=(
        "Enrols hosts, receives their heartbeats and samples, defines their checks and\n"
        "gives them tasks. One process with SQLite, or several with PostgreSQL. It needs\n"
        "no Python on the host: everything it uses comes with it."
    ),
    configuration="server.env",
    sample=("config", "create", "--stdout"),
)

PROGRAMS: Mapping[str, Program] = {program.role: program for program in (AGENT, SERVER)}


def filled(text: str, words: Mapping[str, str]) -> str:
    """Return a recipe with every ``@WORD@`` replaced.

    Raises:
        ValueError: it names a word that there is not.
    """
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    left = [part for part in text.split("@")[1::2] if part.isupper() and part.replace("_", "").isalpha()]
    if left:
        raise ValueError(f"a recipe names @{left[0]}@, which nothing says")
    return text
