"""When a worker that died is started again, and when that is given up.

One death is an accident: the worker is back at once. A worker that dies young over and over is not helped by
another start: the waits double, and then the server ends with a sentence, so that whoever watches it learns of it.
"""

from __future__ import annotations

from dataclasses import dataclass

YOUNG_S = 30.0
"""A worker that lived for longer has served; its death begins a new count."""

GIVE_UP_AFTER = 6
"""Deaths in a row, each of them young."""

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 8.0


@dataclass
class Restarts:
    """The deaths of one worker's place."""

    young_deaths: int = 0

    def wait_s(self, lived_s: float) -> float | None:
        """Count a death; return how long to wait before the next start, None to give up."""
        if lived_s >= YOUNG_S:
            self.young_deaths = 0
            return 0.0
        self.young_deaths += 1
        if self.young_deaths >= GIVE_UP_AFTER:
            return None
        if self.young_deaths == 1:
            return 0.0
        doublings = self.young_deaths - 2
        return min(_FIRST_WAIT_S * 2.0**doublings, _LONGEST_WAIT_S)
