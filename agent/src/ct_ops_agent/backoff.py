"""Growing waits after failures, spread by jitter.

A fleet that loses its server must not come back in one wave: each wait doubles up to a ceiling and
is then cut by a random share, so that a thousand agents that failed together retry apart. A wait
that the server asked for is a lower bound and is only ever stretched.
"""

from collections.abc import Callable
from dataclasses import dataclass

_JITTER_SHARE = 0.25
"""The random part of a wait."""

_MAX_DOUBLINGS = 32


@dataclass
class Backoff:
    """The waits of one kind of failure, in seconds."""

    first: float
    ceiling: float
    random: Callable[[], float]
    """Uniform in [0, 1)."""

    failures: int = 0
    """Failures since the last success."""

    def next_delay(self, *, at_least: float = 0.0) -> float:
        """Count a failure and return how long to wait after it.

        Args:
            at_least: seconds that the server asked for, 0 when it did not.
        """
        nominal = min(self.first * 2.0 ** min(self.failures, _MAX_DOUBLINGS), self.ceiling)
        self.failures += 1
        own = nominal * (1 - _JITTER_SHARE * self.random())
        asked = at_least * (1 + _JITTER_SHARE * self.random())
        return max(own, asked)

    def reset(self) -> None:
        """Forget the failures: something worked."""
        self.failures = 0
