"""How fast one stream's frames are read (a token bucket), how long it may be silent, and how long its frames may wait."""

from __future__ import annotations

from collections.abc import Callable

_LONGEST_PATIENCE_S = 0.25
_INTERVALS_A_PATIENCE = 100


class FramePace:
    """Allows a burst, then a sustained rate. Frames beyond it are not refused, only read later (rule 16)."""

    __slots__ = ("_allowance", "_burst", "_latest_s", "_now_s", "_per_second")

    def __init__(self, *, per_second: float, burst: int, now_s: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._now_s = now_s
        self._allowance = float(burst)
        self._latest_s = now_s()

    def take(self) -> float:
        """Account for one frame; return how many seconds to wait before the next is read."""
        now_s = self._now_s()
        earned = (now_s - self._latest_s) * self._per_second
        self._allowance = min(self._allowance + earned, self._burst) - 1
        self._latest_s = now_s
        return -self._allowance / self._per_second if self._allowance < 0 else 0.0


def allowed_silence_s(*, interval_s: float, floor_s: float, unknown_s: float) -> float:
    """Return how long a stream may be silent: three intervals, not less than ``floor_s``.

    Args:
        interval_s: declared by the agent, or the latest gap between its frames; 0 when neither is known.
        floor_s: short intervals are not taken at their word, networks hiccup.
        unknown_s: what is allowed while nothing is known.
    """
    return max(floor_s, 3 * interval_s) if interval_s else max(floor_s, unknown_s)


def patience_s(interval_s: float) -> float:
    """Return how long a heartbeat may wait for others to share its commit with, in seconds.

    A hundredth of the interval, and a quarter of a second at most: nobody waits for the answer of an agent that
    sends a heartbeat in half a minute, and 3,000 of them cost four commits a second instead of forty.
    """
    return min(_LONGEST_PATIENCE_S, interval_s / _INTERVALS_A_PATIENCE)
