"""Sums up what may happen without end, so that it cannot bury what is decided once.

The first time counts at once. What comes back is gathered and told at the end of a window, and windows double, from a
minute to an hour, for as long as it goes on; after a quiet window it is a first time again. So a key costs the
chain an entry a minute at the very worst, and an entry an hour while somebody hammers. The number of keys
is bounded too: beyond it what is rare is summed up by the first part of its key.

Pure: time is an argument. What is told and then could not be recorded is put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_WINDOW_S = 60.0
LONGEST_WINDOW_S = 3_600.0
PLACES = 500
_NAMED = 5

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something happened, from when to when, and whom the first few were."""

    count: int
    first_s: float
    last_s: float
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    def plus(self, later: Tally) -> Tally:
        """Return both together."""
        return Tally(
            self.count + later.count,
            min(self.first_s, later.first_s),
            max(self.last_s, later.last_s),
            _few(self.hosts + later.hosts),
            _few(self.addresses + later.addresses),
        )


@dataclass(slots=True)
class _Window:
    ends_s: float
    next_length_s: float
    gathered: Tally | None = None


class Thinning:
    """Gathers by key."""

    def __init__(self, *, places: int = PLACES) -> None:
        self._places = places
        self._windows: dict[Key, _Window] = {}

    def add(self, key: Key, tally: Tally) -> None:
        """Count it."""
        if key not in self._windows and len(self._windows) >= self._places:
            key = (key[0], "")
        window = self._windows.setdefault(key, _Window(tally.last_s, FIRST_WINDOW_S))
        window.gathered = tally if window.gathered is None else window.gathered.plus(tally)

    def due(self, now_s: float, *, everything: bool = False) -> Sequence[tuple[Key, Tally]]:
        """Return what is to be told now, and forget it."""
        told: list[tuple[Key, Tally]] = []
        for key, window in list(self._windows.items()):
            # A clock that was set back must not silence a key for as long as it was set back.
            set_back = window.ends_s - now_s > LONGEST_WINDOW_S
            if not (everything or set_back or now_s >= window.ends_s):
                continue
            if window.gathered is None:
                del self._windows[key]
                continue
            told.append((key, window.gathered))
            window.gathered = None
            window.ends_s = now_s + window.next_length_s
            window.next_length_s = min(2 * window.next_length_s, LONGEST_WINDOW_S)
        return told

    def put_back(self, told: Sequence[tuple[Key, Tally]]) -> None:
        """Count again what could not be recorded; it is due at once."""
        for key, tally in told:
            self.add(key, tally)
            if (window := self._windows.get(key)) is not None:
                window.ends_s = tally.last_s


def _few(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, names)))[:_NAMED]
