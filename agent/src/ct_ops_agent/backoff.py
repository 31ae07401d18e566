"""Growing waits after failures, spread by jitter.

A fleet that loses its server must not come back in one wave: each wait doubles up to a ceiling and
is then cut by a random share, so that a thousand agents that failed together retry apart. A wait
that the server asked for is a lower bound and is only ever stretched.

Most outages are short: a restart, an upgrade, a link. So waits may first stop growing at a *hopeful*
length, for a while, before they grow on to the ceiling: whoever comes back finds its agents back within
seconds, and a server that is away for good is not knocked at for ever.
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

    hopeful: float = 0.0
    """Waits stop growing here at first; 0: they do not."""

    hopeful_failures: int = 0
    """For so many failures."""

    def next_delay(self, *, at_least: float = 0.0) -> float:
        """Count a failure and return how long to wait after it.

        Args:
            at_least: seconds that the server asked for, 0 when it did not.
        """
        nominal = self._nominal()
        self.failures += 1
        own = nominal * (1 - _JITTER_SHARE * self.random())
        asked = at_least * (1 + _JITTER_SHARE * self.random())
        return max(own, asked)

    def spread(self, within: float) -> float:
        """Return how long to wait when the server asked its agents to come back within so many seconds.

        It is no failure: the server knew, and somebody is there to connect to.
        """
        return within * self.random()

    def _nominal(self) -> float:
        if self.failures < self.hopeful_failures:
            return min(self.first * 2.0 ** min(self.failures, _MAX_DOUBLINGS), self.hopeful)
        first = self.hopeful or self.first
        doublings = self.failures - self.hopeful_failures + (1 if self.hopeful else 0)
        return min(first * 2.0 ** min(doublings, _MAX_DOUBLINGS), self.ceiling)

    def reset(self) -> None:
        """Forget the failures: something worked."""
        self.failures = 0
