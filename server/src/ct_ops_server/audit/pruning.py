"""How much of the chain the database may forget at once: a clock that is wrong by years must not cost years.

* Nothing that is not in the files, and signed there (``signed_reach``).
* At most ``AT_ONCE`` of entries a day and process, counted from the oldest, however late the clock says that it is.
* Nothing for ``HELD`` after the clock jumped. Then it is believed: whoever sent a machine to sleep for a year changes no clock back.

Pure, but for reading one small file; times are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_server.audit.entries import Link
from ct_ops_server.audit.heads import is_genuine
from ct_ops_server.audit.replay import head_beside

AT_ONCE = timedelta(days=31)
HELD = timedelta(days=7)
JUMP = timedelta(days=1)
QUIET = timedelta(days=31)
"""A chain in which nothing was decided for so long, when a process begins, is as likely one whose clock has jumped."""

_MILLISECOND = timedelta(milliseconds=1)
_DAY_S = 86_400.0


def signed_reach(directory: Path, key: Ed25519PublicKey) -> Link | None:
    """Return how far the files of a directory are signed with this key; None when they are not.

    Raises:
        OSError: the head cannot be read.
    """
    genuine = [signed.head.link for signed in head_beside(directory) if is_genuine(signed, key)]
    return genuine[-1] if genuine else None


@dataclass(slots=True)
class PruningPace:
    """What one process may forget, by a clock that only grows and one that may be wrong."""

    _anchor: tuple[float, int] | None = None
    """A moment of both clocks."""
    _held_until_s: float = 0.0
    _day_begins_s: float = 0.0
    _limit_ms: int | None = None

    def is_held(self, now_s: float, now_ms: int, newest_ms: int) -> bool:
        """Tell whether to wait, because the clock that says ``now_ms`` has jumped ahead."""
        if self._anchor is None:
            if now_ms - newest_ms > QUIET // _MILLISECOND:
                self._held_until_s = now_s + HELD.total_seconds()
        elif self._ahead_ms(now_s, now_ms) > JUMP // _MILLISECOND:
            self._held_until_s = now_s + HELD.total_seconds()
        self._anchor = (now_s, now_ms)
        return now_s < self._held_until_s

    def limit_ms(self, now_s: float, oldest_ms: int) -> int:
        """Return before when an entry has to be recorded to be forgotten today."""
        if self._limit_ms is None or now_s - self._day_begins_s >= _DAY_S:
            self._day_begins_s, self._limit_ms = now_s, oldest_ms + AT_ONCE // _MILLISECOND
        return self._limit_ms

    def _ahead_ms(self, now_s: float, now_ms: int) -> int:
        assert self._anchor is not None
        then_s, then_ms = self._anchor
        return now_ms - then_ms - round((now_s - then_s) * 1000)
