"""The server certificate as it is served now, and when another one takes its place.

Four reasons: its files have changed (an operator, or a tool of theirs, renewed it), it is our own and less than
a third of its life is left, or it has not begun (it was issued while this host's clock was ahead, and no agent believes
it now), or time changes something about our own server CAs. What is on the disk may be half of a renewal, a chain whose
key is not there yet: whoever serves it tries first, and calls ``accept`` when it could. Until then the
old one goes on; agents that trust it lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from ct_ops_server.authority.server_certificate import ServerTls
from ct_ops_server.authority.watched_files import WatchedFiles

_RENEWAL_RETRY = timedelta(hours=1)


class ServedTls:
    """What is served, and what would be served next."""

    def __init__(
        self,
        current: ServerTls,
        *,
        load: Callable[[datetime], ServerTls],
        ca_file: Path | None,
        is_our_own: bool,
    ) -> None:
        """Prepare.

        Args:
            current: what was loaded at the start.
            load: loads it again, issuing our own anew when that is due. May raise AuthorityError.
            ca_file: the configured CA's file, watched too.
            is_our_own: whether we issue it.
        """
        self._current = current
        self._begins_at = current.not_before
        self._load = load
        self._is_our_own = is_our_own
        files = [current.cert_file, current.key_file, *filter(None, (ca_file, current.state_file))]
        self._files = WatchedFiles(files)
        self._next_renewal_try: datetime | None = None

    @property
    def current(self) -> ServerTls:
        """What is served."""
        return self._current

    def candidate(self, now: datetime) -> ServerTls | None:
        """Return what should be served instead, None while nothing has changed.

        Raises:
            AuthorityError: what is on the disk cannot be used; said once for each change of it.
        """
        if not self._files.changed() and not self._renewal_is_due(now):
            return None
        found = self._load(now)
        self._files.changed()  # what we wrote ourselves is no news
        return found

    def accept(self, candidate: ServerTls) -> None:
        """Serve the candidate from now on."""
        self._current = candidate
        self._begins_at = candidate.not_before
        self._next_renewal_try = None

    def _renewal_is_due(self, now: datetime) -> bool:
        again_at = self._current.look_again_at
        time_has_come = again_at is not None and now >= again_at
        end = self._current.not_after  # of the last one of a server CA sooner than its lifetime says
        is_within_its_life = self._begins_at <= now <= end - (end - self._begins_at) / 3
        if not self._is_our_own or (is_within_its_life and not time_has_come):
            return False
        # The latest try may be one of a time when this host's clock was ahead.
        if (
            self._next_renewal_try is not None
            and timedelta(0) < self._next_renewal_try - now <= _RENEWAL_RETRY
        ):
            return False
        self._next_renewal_try = now + _RENEWAL_RETRY
        return True
