"""Everything that is wrong with a configuration, collected before anything is refused.

An operator who fixes one line and is told about the next has to restart as often as there are
mistakes. So reading goes on after a mistake, and the whole list is raised at the end.
"""

import difflib
from collections.abc import Iterable

from ct_ops_agent.errors import ConfigError, Problem


class ProblemList:
    """Problems found so far."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def add(self, key: str, text: str) -> None:
        """Note what is wrong with `key`, and what to do about it."""
        self._found.append(Problem(key, text))

    def raise_if_any(self) -> None:
        """End the reading.

        Raises:
            ConfigError: there is at least one problem.
        """
        if self._found:
            raise ConfigError(self._found)


def unknown_key_text(name: str, known: Iterable[str]) -> str:
    """Return what to do about a key that does not exist, with the nearest one that does."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    guess = f"did you mean {nearest[0]}?" if nearest else "known are: " + ", ".join(sorted(known))
    return (
        f"there is no such key; {guess} Correct or remove it" if nearest else f"there is no such key; {guess}"
    )
