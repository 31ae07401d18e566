"""One log line for a connection that was refused, also when there are thousands.

The first refusal of an address for a reason is logged at once. What follows within the window is
counted and reported in one line when the window ends, so that a flood can fill neither the log nor
our memory: at most ``_LARGEST`` pairs are remembered, further ones only count in the metrics.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger("ct_ops_server.front_door")
_WINDOW_S = 10.0
_LARGEST = 1_000


@dataclass
class _Window:
    opened_at: float
    unreported: int = 0


class ConnectionLog:
    """Logs refused connections, each (address, reason) at most once a window."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._windows: dict[tuple[str, str], _Window] = {}

    def refused(self, address: str, reason: str) -> None:
        """Log, or count for the next line."""
        window = self._windows.get((address, reason))
        if window is not None:
            window.unreported += 1
        elif len(self._windows) < _LARGEST:
            self._windows[address, reason] = _Window(self._now())
            _log.warning("connection from %s closed: %s", address, reason)

    def flush(self) -> None:
        """Report and forget the windows that have ended. Call it every few seconds."""
        ended = [key for key, window in self._windows.items() if self._now() - window.opened_at >= _WINDOW_S]
        for key in ended:
            address, reason = key
            if more := self._windows.pop(key).unreported:
                _log.warning("connection from %s closed: %s (%d more times)", address, reason, more)
