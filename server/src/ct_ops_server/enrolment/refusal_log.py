"""Keeps who was refused, without ever making a refusal slower or fail.

``note`` only changes memory; a task writes what has gathered, once a second at most. What comes back
while it waits is counted on the note that waits already, so a host that knocks without end takes one
place. With all places taken, or the store gone, notes are dropped, counted and summed up in one log line:
the refusal itself was answered and logged anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ct_ops_server.enrolment.model import Application, Refusal, RefusalNote
from ct_ops_server.enrolment.token_ports import RefusalStore
from ct_ops_server.fleet.ports import StoreError

KEPT = 5_000
"""Records kept of those that showed a token of this server, and as many of the others."""

_log = logging.getLogger("ct_ops_server.refusals")
_PLACES = 1_000
_PRUNED_EVERY = 1_000
"""Records written between two prunings."""


class RefusalLog:
    """Gathers refusals and records them in groups."""

    def __init__(
        self,
        store: RefusalStore,
        *,
        dropped: Callable[[int], None] = lambda _count: None,
        places: int = _PLACES,
        pause_s: float = 1.0,
    ) -> None:
        """Prepare the log.

        Args:
            store: where records are kept.
            dropped: told how many refusals will not be recorded.
            places: keys and reasons that may wait at the same time.
            pause_s: between two writes, in seconds.
        """
        self._store = store
        self._dropped = dropped
        self._places = places
        self._pause_s = pause_s
        self._waiting: dict[tuple[str, Refusal], RefusalNote] = {}
        self._arrival = asyncio.Event()
        self._until_pruning = 0

    def note(self, reason: Refusal, application: Application, token_id: str | None) -> None:
        """Remember to record that this application was refused. Never waits, never fails."""
        key = (application.key_id, reason)
        before = self._waiting.get(key)
        if before is None and len(self._waiting) >= self._places:
            self._dropped(1)
            return
        self._waiting[key] = RefusalNote(
            reason=reason,
            key_id=application.key_id,
            hostname=application.hostname,
            observed_address=application.observed_address,
            token_id=token_id,
            count=1 if before is None else before.count + 1,
        )
        self._arrival.set()

    async def run(self) -> None:
        """Record what is noted, until cancelled."""
        while True:
            await self._arrival.wait()
            await self.flush()
            await asyncio.sleep(self._pause_s)

    async def flush(self) -> None:
        """Record what is waiting. A store that does not take it is no reason to stop."""
        self._arrival.clear()
        notes, self._waiting = list(self._waiting.values()), {}
        if not notes:
            return
        try:
            await self._store.record_refusals(notes)
        except StoreError as error:
            lost = sum(note.count for note in notes)
            self._dropped(lost)
            _log.warning("%d refusals were not recorded: %s", lost, error)
        else:
            await self._prune(len(notes))

    async def _prune(self, written: int) -> None:
        self._until_pruning -= written
        if self._until_pruning > 0:
            return
        try:
            await self._store.prune_refusals(keep=KEPT)
            self._until_pruning = _PRUNED_EVERY
        except StoreError as error:
            _log.warning("older records of refusals stay for now: %s", error)
