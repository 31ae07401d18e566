"""A package, whichever manager installed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package."""

    name: str
    version: str
    architecture: str = ""
    publisher: str = ""
    installed_at_unix: int = 0
    """0: the manager does not know."""


@dataclass(frozen=True, slots=True)
class Packages:
    """What a package manager has installed."""

    source: str
    packages: Sequence[Package]
