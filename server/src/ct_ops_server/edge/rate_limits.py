"""How often somebody may ask: so many requests in a window of time, for each kind of request. Pure, with a clock.

Kept in this process and forgotten by itself: an address that has not asked for a minute costs nothing, and a
flood of addresses pushes out the oldest ones instead of growing the memory (an existing server never forgets).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 60.0
_MOST_ADDRESSES = 10_000


@dataclass(slots=True)
class _Window:
    began_s: float
    asked: int


class RateLimit:
    """At most so many requests of one address (or another key) in a window of 60 seconds, or another one."""

    def __init__(self, most: int, *, now_s: Callable[[], float], window_s: float = WINDOW_S) -> None:
        self._most = most
        self._now_s = now_s
        self._window_s = window_s
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Count a request; return 0 when it is allowed, else the seconds until the next one is."""
        now_s = self._now_s()
        window = self._windows.pop(address, None)
        if window is None or now_s - window.began_s >= self._window_s:
            window = _Window(now_s, 0)
        self._windows[address] = window
        while len(self._windows) > _MOST_ADDRESSES:
            self._windows.popitem(last=False)
        if window.asked >= self._most:
            return window.began_s + self._window_s - now_s
        window.asked += 1
        return 0.0
