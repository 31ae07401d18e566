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
    by_last_part = {path.rpartition(".")[2]: path for path in known}
    nearest = difflib.get_close_matches(name.rpartition(".")[2], list(by_last_part), n=1, cutoff=0.6)
    if nearest:
        return f"there is no such key; did you mean {by_last_part[nearest[0]]}? Correct or remove it"
    return f"there is no such key; known are: {', '.join(sorted(by_last_part.values()))}"
