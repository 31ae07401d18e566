"""The group-commit writer: every write of the server goes through here, many to a transaction.

A commit costs the same for one row and for five hundred. So the frames of all streams that arrive
within at most 50 ms are stored in one transaction, and whoever submitted them hears of it after the
commit: "stored" means durable. ADR 0003 has the figures and what was rejected. A write that nobody waits
for (the heartbeat of an agent that sends one in half a minute) may wait longer for company: a fleet at rest
costs a few commits a second, however many agents it has.

Two shapes of writes:

* *set-based kinds* (heartbeats, streams that open or close): each kind stores all its writes of a
  group with one statement, ordered by agent id so that two workers lock rows in the same order;
* *commands* (an admission, an operator's verdict): callables that run one by one, each in a SAVEPOINT.
  They share the group's commit; one that raises is undone alone and its caller gets the error.

Rules kept here:

* No write can stop the others (rule 15). A group that the database refuses is rolled back and taken
  apart (``grouping.Plan``); the culprit's caller gets ``WriteRefusedError``, the others are committed.
* A database that is down fails everybody at once with ``StoreUnavailableError``, and the next group
  finds out by itself whether it is back. When the connection is lost during the commit itself,
  nobody can know whether it took place: callers must be able to repeat what they asked.
* A command may run more than once, so it changes nothing but the database.
* A caller that goes away harms nobody: its write is left out, or stored unheard.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from operator import attrgetter
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.store.audit import kept_if_done
from ct_ops_server.store.faults import Fault, fault_of, is_from_driver, store_error
from ct_ops_server.store.grouping import (
    Entry,
    Failed,
    Pace,
    PendingWrites,
    Plan,
    WriteKind,
    WriterLimits,
)

W = TypeVar("W")
R = TypeVar("R")
Command = Callable[[AsyncConnection], Awaitable[R]]


class Transactions(Protocol):
    """Where the writer writes: ``database.Database``."""

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Return a transaction that is committed at the end of the block, else rolled back."""


class WriterObserver(Protocol):
    """Whoever counts. Called on the event loop; must not raise."""

    def group_committed(self, writes: int, seconds: float) -> None:
        """A transaction was committed with so many writes, from BEGIN to COMMIT in so many seconds."""

    def group_taken(self, waited_s: float) -> None:
        """A group is about to be written, of which the first had waited so many seconds."""

    def database_lost(self) -> None:
        """A transaction failed because the database does not answer."""

    def write_refused(self, kind: str) -> None:
        """The database refused one write of this kind, also alone."""

    def writes_unavailable(self, writes: int) -> None:
        """So many writes failed because the database does not answer."""


class NobodyWatching:
    """An observer that counts nothing."""

    def group_committed(self, writes: int, seconds: float) -> None:
        """Ignore it."""

    def group_taken(self, waited_s: float) -> None:
        """Ignore it."""

    def database_lost(self) -> None:
        """Ignore it."""

    def write_refused(self, kind: str) -> None:
        """Ignore it."""

    def writes_unavailable(self, writes: int) -> None:
        """Ignore it."""


class _Commands:
    """The kind of all commands."""

    name = "command"

    async def apply(
        self, connection: AsyncConnection, writes: Sequence[Command[Any]]
    ) -> Sequence[Any | Failed]:
        return [await _run_command(connection, command) for command in writes]


_COMMANDS = _Commands()


class GroupWriter:
    """Commits writes in groups, one group at a time. Use as an async context manager."""

    def __init__(
        self,
        database: Transactions,
        *,
        limits: WriterLimits | None = None,
        observer: WriterObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a writer.

        Args:
            database: where to.
            limits: sizes and times.
            observer: told of every commit and refusal.
            clock: monotonic seconds.
        """
        self._database = database
        self._limits = limits or WriterLimits()
        self._observer = observer or NobodyWatching()
        self._clock = clock
        self._pending = PendingWrites(self._limits.pending, self._limits.backlog)
        self._arrival = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closing = False
        self._pace = Pace(self._limits)
        self._under_way: Sequence[Entry] = ()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="store-writer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Take nothing more, commit what is waiting, and stop."""
        self._closing = True
        self._arrival.set()
        self._hurry.set()
        if self._task is not None:
            await self._task

    @property
    def load(self) -> float:
        """Share of the room for heavy writes that is taken, 0 to 1."""
        return self._pending.load

    @property
    def waiting(self) -> int:
        """Writes that are not answered yet, those of the transaction under way included."""
        return len(self._pending) + len(self._under_way)

    @property
    def lag_s(self) -> float:
        """How long the oldest of them has waited, in seconds."""
        oldest_s = min((entry.submitted_s for entry in self._under_way), default=self._pending.oldest_s)
        return 0.0 if oldest_s is None else max(0.0, self._clock() - oldest_s)

    async def submit(
        self, kind: WriteKind[W, R], write: W, *, key: str, weight: int = 1, patience_s: float = 0.0
    ) -> R:
        """Store one write of a set-based kind; return its result after the commit.

        Args:
            kind: how it is stored.
            write: what is stored.
            key: the agent's id. Of one key, light writes are stored in the order of their submission, and
                heavy ones are.
            weight: how much it stores, in writes of the usual size; above 1 it is heavy.
            patience_s: how long it may wait for others to share its commit with, in seconds.

        Raises:
            WriteRefusedError: the database refuses this very write.
            StoreUnavailableError: the database does not answer, or the queue is full.
        """
        result: R = await self._enqueue(kind, write, key, weight, patience_s)
        return result

    async def run(self, command: Command[R]) -> R:
        """Run a command in the transaction of a group; return its result after the commit.

        Raises:
            WriteRefusedError: the database refuses what the command does.
            StoreUnavailableError: the database does not answer, or the queue is full.
            Exception: what the command itself raised; what it had changed is undone.
        """
        result: R = await self._enqueue(_COMMANDS, command, None)
        return result

    def _enqueue(
        self,
        kind: WriteKind[Any, Any],
        write: object,
        key: str | None,
        weight: int = 1,
        patience_s: float = 0.0,
    ) -> asyncio.Future[Any]:
        if self._closing or self._task is None or self._task.done():
            raise StoreUnavailableError("the store is closed")
        result = asyncio.get_running_loop().create_future()
        entry = Entry(kind, write, key, result, weight, self._clock(), patience_s)
        due_s = self._pending.due_s
        if not self._pending.offer(entry):
            self._observer.writes_unavailable(1)
            raise StoreUnavailableError("the store has more writes waiting than it may take")
        if self._pending.due_s < due_s:
            self._arrival.set()
        if self._pending.weight >= self._limits.group:
            self._arrival.set()
            self._hurry.set()
        return entry.result

    async def _run(self) -> None:
        try:
            while await self._gather():
                self._under_way = self._pending.take(self._limits.group)
                if self._under_way:
                    self._observer.group_taken(self.lag_s)
                await self._commit(self._under_way)
                self._under_way = ()
        finally:
            # Only a cancelled writer leaves any: nobody may wait for an answer that cannot come.
            while left := self._pending.take(self._limits.pending):
                self._give_up(left, StoreUnavailableError("the store was stopped"))

    async def _gather(self) -> bool:
        """Wait until a group is due. False: closed, and nothing is left."""
        while not self._is_due():
            if self._closing and not self._pending:
                return False
            await self._news()
        pause = self._pace.pause(now_s=self._clock())
        if pause > 0 and self._pending.weight < self._limits.group and not self._closing:
            await self._rest(pause)
        return True

    def _is_due(self) -> bool:
        """Whether one of those that wait may wait no longer, or they fill a group."""
        if self._closing or self._pending.weight >= self._limits.group:
            return len(self._pending) > 0
        return self._pending.due_s <= self._clock()

    async def _news(self) -> None:
        """Wait until the patience of the first one ends, or a write arrives that waits less."""
        self._arrival.clear()
        loop, due_s = asyncio.get_running_loop(), self._pending.due_s
        alarm = None if math.isinf(due_s) else loop.call_later(due_s - self._clock(), self._arrival.set)
        await self._arrival.wait()
        if alarm is not None:
            alarm.cancel()

    async def _rest(self, seconds: float) -> None:
        """Let the group grow for a while, or until it is full."""
        self._hurry.clear()
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(seconds, self._hurry.set)
        await self._hurry.wait()
        alarm.cancel()

    async def _commit(self, group: Sequence[Entry]) -> None:
        plan = Plan(group)
        while part := plan.take():
            try:
                await self._transact(part.entries)
            except Exception as error:  # noqa: BLE001 - whatever it is, fault_of says what follows
                if (fault := fault_of(error)) is Fault.UNAVAILABLE:
                    self._observer.database_lost()
                self._give_up(plan.failed(part, fault), error)
            except BaseException:
                self._give_up(group, StoreUnavailableError("the store was stopped"))
                raise

    async def _transact(self, entries: Sequence[Entry]) -> None:
        started = self._clock()
        async with self._database.writing() as connection:
            outcomes = await _apply(connection, entries)
        ended = self._clock()
        self._pace.spent(ended - started, now_s=ended)
        self._observer.group_committed(len(entries), ended - started)
        for entry, outcome in outcomes:
            self._answer(entry, outcome)

    def _answer(self, entry: Entry, outcome: object) -> None:
        if entry.result.done():
            return
        if isinstance(outcome, Failed):
            entry.result.set_exception(outcome.error)
        else:
            entry.result.set_result(outcome)

    def _give_up(self, entries: Sequence[Entry], error: Exception) -> None:
        if not entries:
            return
        if fault_of(error) is Fault.REFUSED:
            self._observer.write_refused(entries[0].kind.name)
        else:
            self._observer.writes_unavailable(len(entries))
        for entry in entries:
            self._answer(entry, Failed(store_error(error)))


async def _apply(connection: AsyncConnection, entries: Sequence[Entry]) -> list[tuple[Entry, object]]:
    """Store the writes of a group, kind by kind, agents in order; return the outcomes."""
    outcomes: list[tuple[Entry, object]] = []
    ordered = sorted(entries, key=lambda entry: (entry.kind.name, entry.key or ""))
    for _, same_kind in groupby(ordered, key=attrgetter("kind.name")):
        batch = list(same_kind)
        results = await batch[0].kind.apply(connection, [entry.write for entry in batch])
        outcomes += zip(batch, results, strict=True)
    return outcomes


async def _run_command(connection: AsyncConnection, command: Command[Any]) -> Any | Failed:
    """Run one command in a SAVEPOINT. Outages and conflicts are the whole group's: they are raised."""
    try:
        with kept_if_done(connection):
            async with connection.begin_nested():
                return await command(connection)
    except Exception as error:
        if fault_of(error) is not Fault.REFUSED:
            raise
        return Failed(store_error(error) if is_from_driver(error) else error)
