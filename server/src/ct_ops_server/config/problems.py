"""What is wrong with a configuration: everything at once, by name, with what to do.

An operator who corrects one line and restarts only to be told of the next has been wronged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    name: str
    """The variable, or the file and line."""
    what: str
    """What is wrong with it, without a secret's value."""
    remedy: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.name} {self.what}. {self.remedy}."


class ConfigError(Exception):
    """The configuration cannot be used. ``str()`` lists every problem, one a line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
