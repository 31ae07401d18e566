"""Which writes share a commit, and how a failing group is taken apart. Pure: no database, no clock.

* ``PendingWrites``    the bounded queue. A group holds at most one write of an agent; its next one
                       waits for the next group, in order, because one statement cannot change a row
                       twice (rule 15).
* ``Plan``             what is left to try of a group: halves of a half that failed, down to the one
                       write that is to blame.
* ``gathering_pause``  how long to let a group grow before the next commit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.faults import Fault

W_contra = TypeVar("W_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

MAX_TRIES = 4
"""Of one part of a group whose transaction met another one."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The outcome of one write that raised, while its group goes on."""

    error: Exception


class WriteKind(Protocol[W_contra, R_co]):
    """One kind of write: knows how to store any number of them on one connection."""

    @property
    def name(self) -> str:
        """What metrics call it."""

    async def apply(self, connection: AsyncConnection, writes: Sequence[W_contra]) -> Sequence[R_co | Failed]:
        """Store the writes; return one outcome each, in order. May run again after a rollback."""


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """What the writer may take up. Defaults were measured: see ``bench/store_writer.py``."""

    group: int = 500
    """Writes in one commit."""
    pending: int = 20_000
    """Writes waiting; more are turned away at once."""
    gather_s: float = 0.1
    """Longest time that a write waits for company, in seconds."""
    rest_factor: float = 2.0
    """A commit is followed by a pause of this many times its own duration, within ``gather_s``."""


@dataclass(eq=False, slots=True)
class Entry:
    """A write in the queue. ``key`` is its agent's id; None means it minds nobody's order."""

    kind: WriteKind[Any, Any]
    write: Any
    key: str | None
    result: asyncio.Future[Any] = field(repr=False)


class PendingWrites:
    """Writes waiting for a group, first come first served."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, entry: Entry) -> bool:
        """Add a write. False: the queue is full."""
        if len(self._entries) >= self._limit:
            return False
        self._entries.append(entry)
        return True

    def take(self, limit: int) -> list[Entry]:
        """Remove the next group: at most ``limit`` writes, at most one of each agent."""
        group: list[Entry] = []
        held: list[Entry] = []
        keys: set[str | None] = set()
        while self._entries and len(group) < limit:
            entry = self._entries.popleft()
            if entry.result.done():  # whoever asked has gone away
                continue
            if entry.key is not None and entry.key in keys:
                held.append(entry)
                continue
            keys.add(entry.key)
            group.append(entry)
        self._entries.extendleft(reversed(held))
        return group


@dataclass(frozen=True, slots=True)
class Part:
    """Some writes of a group, to be committed together."""

    entries: Sequence[Entry]
    tries: int = 0


class Plan:
    """What is left to try of a group.

    Take a part, try it, and tell ``failed`` when it did; until ``take`` returns None.
    """

    def __init__(self, group: Sequence[Entry]) -> None:
        self._parts = [Part(group)] if group else []

    def take(self) -> Part | None:
        """Return the next part to try."""
        return self._parts.pop() if self._parts else None

    def failed(self, part: Part, fault: Fault) -> Sequence[Entry]:
        """Plan what follows from a failure; return the writes that are given up.

        Without a database there is nothing to find out by trying the rest: all are given up.
        """
        match fault:
            case Fault.CONFLICT if part.tries + 1 < MAX_TRIES:
                self._parts.append(Part(part.entries, part.tries + 1))
            case Fault.REFUSED if len(part.entries) > 1:
                middle = len(part.entries) // 2
                self._parts += [Part(part.entries[middle:]), Part(part.entries[:middle])]
            case Fault.UNAVAILABLE:
                rest = [entry for left in reversed(self._parts) for entry in left.entries]
                self._parts.clear()
                return [*part.entries, *rest]
            case _:
                return part.entries
        return []


def gathering_pause(
    limits: WriterLimits, *, pending: int, since_commit_s: float, last_commit_s: float
) -> float:
    """Return how many seconds to wait for company before the next commit.

    Alone and after a quiet time a write is committed at once. Under load the writer rests in
    proportion to what its last commit cost, so that groups grow with the load and the fixed price of
    a commit is never more than a share of the time.
    """
    if pending >= limits.group:
        return 0.0
    rest = min(limits.gather_s, limits.rest_factor * last_commit_s)
    return max(0.0, rest - since_commit_s)
