"""Threads that a collector's run has left behind.

Python does not say who started a thread, so it is inferred, and only where it is certain: a thread that was not
there before a run and is there after it, while no other collector ran in between, and that is none of the agent's
own (`apart`, the event loop's executor). Runs overlap at times; a collector that leaks does so in every run, and
is found in the next one that was alone.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ct_ops_agent.apart import is_apart

_OF_THE_EVENT_LOOP = "asyncio_"


@dataclass(frozen=True, slots=True)
class Before:
    """What there was when a run began."""

    threads: frozenset[threading.Thread]
    runs_begun: int
    was_alone: bool


class ThreadWatch:
    """Watches the runs of all collectors. On the event loop only."""

    def __init__(self) -> None:
        self._begun = 0
        self._active = 0

    def begin(self) -> Before:
        """A run is about to begin."""
        self._begun += 1
        self._active += 1
        return Before(frozenset(threading.enumerate()), self._begun, was_alone=self._active == 1)

    def end(self, before: Before) -> frozenset[threading.Thread]:
        """A run has ended, or was given up; return what it has left behind for certain."""
        self._active -= 1
        if not before.was_alone or self._begun != before.runs_begun:
            return frozenset()
        new = frozenset(threading.enumerate()) - before.threads
        return frozenset(
            one for one in new if not is_apart(one) and not one.name.startswith(_OF_THE_EVENT_LOOP)
        )
