"""Ends the connections of agents that were revoked or deleted, whichever process that was done on.

Leaving ``active`` (and being deleted) appends an *ending* to the database in the same transaction. Every
process reads the endings after the last one it knows, at a hint and twice a second (the bus does that),
and ends what it holds of those agents. Endings are numbered in the order of their commits, so "after
number N" can lose nothing; a process that finds a hole (it was away for longer than endings are kept, or
the database went back in time) lets all of its agents reconnect instead: their rows are read again then.

A connection that opens while its agent is being revoked is no gap: it is in the live table before its
agent's row is read (rule 6).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from ct_ops_server.fleet.model import Ending
from ct_ops_server.fleet.ports import EndingStore, LiveAgents

TOPIC = "endings"
CATCH_UP_EVERY = timedelta(seconds=0.5)
"""So that a revocation is prompt also while hints do not arrive. One row is read each time."""

_log = logging.getLogger("ct_ops_server.endings")


class EndingWatch:
    """This process's part in every revocation."""

    def __init__(self, store: EndingStore, live: LiveAgents, *, observe: Callable[[timedelta], None]) -> None:
        """Prepare the watch; ``observe`` is told how long each ending took that met a connection here."""
        self._store = store
        self._live = live
        self._observe = observe
        self._last: int | None = None

    async def start(self) -> None:
        """Begin after the present endings. Call it before any agent is let in.

        Raises:
            StoreError: the store did not answer.
        """
        self._last = await self._store.last_ending()

    async def catch_up(self) -> None:
        """End the connections of every agent that has an ending since the last time.

        Raises:
            StoreError: the store did not answer; what was not done is done the next time.
        """
        assert self._last is not None
        latest = await self._store.last_ending()
        if latest == self._last:
            return
        endings = await self._store.endings_after(self._last)
        if _have_hole(self._last, endings):
            _log.warning("endings were missed: all agents of this process reconnect")
            self._live.end_all("reconnect")
            self._last = latest
        for ending in endings:
            self._end(ending)
            self._last = ending.number

    def _end(self, ending: Ending) -> None:
        if connections := self._live.end(ending.agent_id, ending.reason):
            self._observe(ending.age)
            _log.info(
                "agent %s: %d connections ended (%s) %.0f ms after the decision",
                ending.agent_id,
                connections,
                ending.reason,
                ending.age / timedelta(milliseconds=1),
            )


def _have_hole(last: int, endings: Sequence[Ending]) -> bool:
    return not endings or endings[0].number != last + 1
