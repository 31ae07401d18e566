"""How long agents that we send away may take to come back, so that they do not all come at once.

Whoever takes them in can do so many TLS handshakes a second: as many as we did ourselves in the busiest second of our
life, for the other workers and nodes are like us. A server that never was busy assumes what a small machine does.
"""

from __future__ import annotations

_SLOWEST_PER_S = 300.0
"""What two old cores do when the agents are elsewhere."""

_LONGEST_S = 30.0
"""A heartbeat's interval: nobody shall be missed for longer."""


class HandshakeRate:
    """The most handshakes that were done in a second."""

    def __init__(self) -> None:
        self.best_per_s = 0.0
        self._since_s: float | None = None
        self._done = 0

    def done(self) -> None:
        """Count a handshake."""
        self._done += 1

    def look(self, now_s: float) -> None:
        """Take the count since the last look into account; to be called about once a second."""
        if self._since_s is not None and now_s > self._since_s:
            # Never by less than a second: two handshakes within a millisecond are no rate.
            self.best_per_s = max(self.best_per_s, self._done / max(1.0, now_s - self._since_s))
        self._since_s, self._done = now_s, 0


def reconnect_within_s(agents: int, handshakes_per_s: float) -> float:
    """Return the time within which so many agents should come back, each at a moment of its own choice."""
    return min(_LONGEST_S, agents / max(handshakes_per_s, _SLOWEST_PER_S))
