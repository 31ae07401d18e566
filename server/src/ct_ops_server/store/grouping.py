"""Which writes share a commit, and how a failing group is taken apart. Pure: no database, no clock.

* ``PendingWrites``    the bounded queue. A group holds at most one write of an agent; its next one
                       waits for the next group, because one statement cannot change a row twice
                       (rule 15). Heavy writes (an agent that comes home with a day of samples) have a
                       lane of their own, behind the light ones: heartbeats never wait for them.
* ``Plan``             what is left to try of a group: halves of a half that failed, down to the one
                       write that is to blame.
* ``Pace``             how long to let a group grow before the next commit.

A write may be *patient*: nobody is the worse for it when it waits a while for company. A group is due as soon as
one of its writes has waited as long as that one may; one that may not wait takes all of the patient ones along.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.store.faults import Fault

W_contra = TypeVar("W_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

BACKLOG = 20_000
"""Default weight of the heavy writes that may wait: some ten seconds of work."""

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
    """Weight of the writes in one commit; a write is heavier than 1 when it stores many rows."""
    pending: int = 20_000
    """Light writes waiting; more are turned away at once."""
    backlog: int = BACKLOG
    """Weight of the heavy writes waiting, likewise."""
    gather_s: float = 0.05
    """Longest time that a write waits for company, in seconds."""
    commit_share: float = 0.2
    """Share of the time that commits may take before writes are made to wait."""
    free_commits_s: float = 0.1
    """Commits that take this long together, in seconds, are free of that rule."""


@dataclass(eq=False, slots=True)
class Entry:
    """A write in the queue. ``key`` is its agent's id; None means it minds nobody's order."""

    kind: WriteKind[Any, Any]
    write: Any
    key: str | None
    result: asyncio.Future[Any] = field(repr=False)
    weight: int = 1
    submitted_s: float = 0.0
    patience_s: float = 0.0
    """How long it may wait for company."""

    @property
    def due_s(self) -> float:
        """When it has waited long enough."""
        return self.submitted_s + self.patience_s


class PendingWrites:
    """Writes waiting for a group: the light ones first, in each lane first come first served."""

    def __init__(self, limit: int, backlog: int = BACKLOG) -> None:
        self._limit = limit
        self._backlog = backlog
        self._light: deque[Entry] = deque()
        self._heavy: deque[Entry] = deque()
        self._heavy_weight = 0
        self._due_s = math.inf

    def __len__(self) -> int:
        return len(self._light) + len(self._heavy)

    @property
    def weight(self) -> int:
        """Of everything that waits."""
        return len(self._light) + self._heavy_weight

    @property
    def oldest_s(self) -> float | None:
        """When the write was submitted that waits longest; None: none waits."""
        return min((lane[0].submitted_s for lane in (self._light, self._heavy) if lane), default=None)

    @property
    def due_s(self) -> float:
        """When the first of them has waited as long as it may; infinity: none waits."""
        return self._due_s

    @property
    def load(self) -> float:
        """Share of the room for heavy writes that is taken, 0 to 1."""
        return min(1.0, self._heavy_weight / self._backlog)

    def offer(self, entry: Entry) -> bool:
        """Add a write. False: its lane is full."""
        if entry.weight > 1:
            # One fits into an empty lane, whatever its weight.
            if self._heavy and self._heavy_weight + entry.weight > self._backlog:
                return False
            self._heavy.append(entry)
            self._heavy_weight += entry.weight
        else:
            if len(self._light) >= self._limit:
                return False
            self._light.append(entry)
        self._due_s = min(self._due_s, entry.due_s)
        return True

    def take(self, limit: int) -> list[Entry]:
        """Remove the next group: about ``limit`` of weight, at most one write of each agent.

        Heavy writes fill what the light ones leave; one of them always gets its turn.
        """
        keys: set[str | None] = set()
        group = _take(self._light, limit, keys)
        heavy = _take(self._heavy, max(1, limit - len(group)), keys)
        self._heavy_weight = sum(entry.weight for entry in self._heavy)
        # What found no place has waited for a whole group already: it is in the next one, due or not.
        self._due_s = -math.inf if self else math.inf
        return group + heavy


def _take(lane: deque[Entry], limit: int, keys: set[str | None]) -> list[Entry]:
    """Remove writes from the front of a lane until their weight reaches the limit, none of a taken key."""
    group: list[Entry] = []
    held: list[Entry] = []
    weight = 0
    while lane and weight < limit:
        entry = lane.popleft()
        if entry.result.done():  # whoever asked has gone away
            continue
        if entry.key is not None and entry.key in keys:
            held.append(entry)
            continue
        keys.add(entry.key)
        group.append(entry)
        weight += entry.weight
    lane.extendleft(reversed(held))
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


class Pace:
    """When the next commit is due.

    Alone a write is committed at once. Under load commits may take only their share of the time, so
    groups grow with the load and the fixed price of a commit never fills a core. A short burst of
    commits is free: an operator's ten commands in a row do not wait for company that never comes.
    """

    def __init__(self, limits: WriterLimits) -> None:
        self._limits = limits
        self._debt_s = 0.0
        """Time spent on commits and not yet earned back."""
        self._counted_at_s = 0.0

    def spent(self, seconds: float, *, now_s: float) -> None:
        """Count a commit that took so long and has just ended."""
        limits = self._limits
        earned = (now_s - self._counted_at_s) * limits.commit_share
        # No more than one longest pause pays off: a storm must not slow down the calm after it.
        most = limits.free_commits_s + limits.gather_s * limits.commit_share
        self._debt_s = min(most, max(0.0, self._debt_s - earned) + seconds)
        self._counted_at_s = now_s

    def pause(self, *, now_s: float) -> float:
        """Return how many seconds the next commit has to wait for company."""
        earned = (now_s - self._counted_at_s) * self._limits.commit_share
        excess = self._debt_s - earned - self._limits.free_commits_s
        return min(self._limits.gather_s, max(0.0, excess / self._limits.commit_share))
