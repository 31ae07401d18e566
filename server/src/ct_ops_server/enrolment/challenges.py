"""Challenges: nonces that an agent signs to prove its key freshly (rule 12).

A nonce belongs to one key, is good for one minute and for one use. It lives in the memory of the
process that gave it out, because the Register that answers comes on the same connection. At most so
many are open at a time; expired ones make room first.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

NONCE_BYTES = 32
LIFETIME = timedelta(seconds=60)
_MOST_OPEN = 10_000


class TooManyChallengesError(Exception):
    """As many challenges are open as may be; the oldest expire within a minute."""


class Challenges:
    """The open challenges of one process."""

    def __init__(
        self,
        *,
        random_bytes: Callable[[int], bytes],
        monotonic_s: Callable[[], float],
        lifetime: timedelta = LIFETIME,
        most_open: int = _MOST_OPEN,
    ) -> None:
        self._random_bytes = random_bytes
        self._monotonic_s = monotonic_s
        self._lifetime = lifetime
        self._most_open = most_open
        self._open: dict[bytes, tuple[str, float]] = {}  # oldest first: all live equally long

    @property
    def lifetime(self) -> timedelta:
        """How long a nonce may be answered."""
        return self._lifetime

    def issue(self, key_id: str) -> bytes:
        """Return a new nonce for this key.

        Raises:
            TooManyChallengesError: too many are open.
        """
        self._forget_expired()
        if len(self._open) >= self._most_open:
            raise TooManyChallengesError
        nonce = self._random_bytes(NONCE_BYTES)
        self._open[nonce] = (key_id, self._monotonic_s() + self._lifetime.total_seconds())
        return nonce

    def redeem(self, nonce: bytes, key_id: str) -> bool:
        """Use a nonce up; return whether it was this key's, and still good."""
        owner, expires_at_s = self._open.pop(nonce, ("", 0.0))
        return owner == key_id and self._monotonic_s() < expires_at_s

    def _forget_expired(self) -> None:
        now_s = self._monotonic_s()
        while self._open:
            oldest = next(iter(self._open))
            if self._open[oldest][1] > now_s:
                return
            del self._open[oldest]
