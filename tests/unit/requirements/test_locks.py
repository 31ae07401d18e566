"""The locks: what is installed on a host, on a server and on a developer's machine, to the byte.

What follows from what is read from ``pyproject.toml`` and from the metadata of the environment in which the
tests run, which is installed from ``dev.lock``; nothing here asks a package index.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
LOCKS = ("agent", "server", "dev")

_ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?: ; (?P<marker>[^\\\n]+?))?"
    r"(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Pin:
    """One package of a lock."""

    version: str
    hashes: frozenset[str]
    applies: bool
    """On this platform."""


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.lock").read_text()


def parsed(text: str) -> dict[str, Pin]:
    return {canonicalize_name(match["name"]): _pin(match) for match in _ENTRY.finditer(text)}


def _pin(match: re.Match[str]) -> Pin:
    marker = match["marker"]
    hashes = frozenset(re.findall(r"sha256:\w+", match["hashes"]))
    return Pin(match["version"], hashes, applies=not marker or Marker(marker).evaluate())


def declared(extra: str | None) -> list[Requirement]:
    """Return what `pyproject.toml` asks for, with our own extras written out; None: no extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = project["optional-dependencies"][extra] if extra else project["dependencies"]
    direct = [Requirement(text) for text in texts]
    ours = [requirement for requirement in direct if requirement.name == project["name"]]
    others = [requirement for requirement in direct if requirement.name != project["name"]]
    return others + [inner for one in ours for name in sorted(one.extras) for inner in declared(name)]


def wanted(lock: str) -> list[Requirement]:
    return declared(None) + declared(lock)


def closure(requirements: Iterable[Requirement]) -> set[str]:
    """Return the names of all that is needed here, through any number of steps."""
    due = {(canonicalize_name(one.name), frozenset(one.extras)) for one in requirements}
    seen = set[tuple[str, frozenset[str]]]()
    while due:
        name, extras = due.pop()
        seen.add((name, extras))
        due |= {(canonicalize_name(one.name), frozenset(one.extras)) for one in _needs(name, extras)} - seen
    return {str(name) for name, _ in seen}


def _needs(name: str, extras: frozenset[str]) -> list[Requirement]:
    """Return what an installed package needs on this platform."""
    needed = [Requirement(text) for text in requires(name) or ()]
    return [
        one
        for one in needed
        if not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in extras | {""})
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_satisfies_what_the_project_asks_for(lock: str) -> None:
    """Every requirement of the base and of the lock's extra is pinned to a version that it allows."""
    pins = parsed(lock_text(lock))
    unmet = [
        str(one)
        for one in wanted(lock)
        if (pin := pins.get(canonicalize_name(one.name))) is None or pin.version not in one.specifier
    ]

    assert [] == unmet


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_is_needed_and_nothing_else(lock: str) -> None:
    """Through all steps of dependency, on this platform: an installation from it needs no resolver."""
    here = {name for name, pin in parsed(lock_text(lock)).items() if pin.applies}

    assert closure(wanted(lock)) == here


def test_a_host_gets_no_server_library() -> None:
    """What only the server asks for is not in the agent's lock: neither the database's nor the web's."""
    only_server = {one.name for one in declared("server")} - {one.name for one in wanted("agent")}

    assert {"sqlalchemy", "asyncpg", "fastapi", "uvicorn", "alembic"} <= only_server
    assert set() == only_server & parsed(lock_text("agent")).keys()


@pytest.mark.parametrize("lock", ["agent", "server"])
def test_what_is_shipped_is_what_was_tested(lock: str) -> None:
    """Same versions and same files as in the environment that the tests run in."""
    tested = parsed(lock_text("dev"))
    shipped = parsed(lock_text(lock))

    differing = [
        name
        for name, pin in shipped.items()
        if (pin.version, pin.hashes) != (tested[name].version, tested[name].hashes)
    ]
    assert [] == differing


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_is_pinned_with_hashes(lock: str) -> None:
    """Nothing is left over when all pinned entries and their comments are taken away."""
    left = re.sub(r"^\s*#.*\n", "", _ENTRY.sub("", lock_text(lock)), flags=re.MULTILINE)

    assert "" == left
    assert parsed(lock_text(lock))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_to_download_from(lock: str) -> None:
    """A site installs from its own mirror; no address of anybody's index is written down."""
    assert not re.search(r"://|--(?:extra-)?index|--find-links|--trusted-host", lock_text(lock))
