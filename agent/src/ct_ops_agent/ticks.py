"""When recurring work is due: on a grid, with a jitter of its own for each tick. Pure.

The grid is its beginning plus multiples of the interval. The jitter is added to a tick and never to the next
one, so that work that runs every minute runs 1,440 times a day. Ticks that were missed are skipped.
"""

from __future__ import annotations

import math

_JITTER_SHARE = 0.1
_LONGEST_JITTER_S = 5.0
_ROUNDING = 1e-6


def next_tick(elapsed_s: float, interval_s: float, chance: float) -> float:
    """Return when the next run is due, counted like `elapsed_s` from the beginning of the grid.

    Args:
        elapsed_s: since the beginning of the grid; negative when a clock was set back.
        interval_s: of the grid.
        chance: in [0, 1), for the jitter of this tick.
    """
    # Whoever runs exactly on a tick must not find, by a rounded division, that it is still to come.
    tick = max(math.floor(elapsed_s / interval_s + _ROUNDING) + 1, 1)
    jitter = min(interval_s * _JITTER_SHARE, _LONGEST_JITTER_S) * chance
    return tick * interval_s + jitter
