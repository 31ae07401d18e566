"""Dispatch: hands what is due to the live streams of this process, unasked and at once.

What is due lies in the database. A *provider* reads it, for any number of live streams with one query;
each kind of work has one. Providers are asked

* when the bus hints at their topic, and every half minute for all streams here, hint or no hint;
* when a stream has begun, for the streams that began meanwhile;
* when a stream has taken what it was handed, if something came up while it was busy;
* when a stream has brought something that makes more due to its own agent, such as a task's result.

So an idle agent costs the database nothing, whoever has a hundred agents asks once and not a hundred
times, and a lost hint costs half a minute (rule 20).

A stream takes one thing after the other. While it is busy its provider is not asked for it, only noted:
a slow reader holds up nobody, and nothing piles up for it. What a stream was told already is not told
twice on it; on the agent's next stream it is told again, for existing agents forget (rule 21).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Protocol

from ct_ops_server.fleet.bus import Bus
from ct_ops_server.fleet.work import Work

CATCH_UP_EVERY = timedelta(seconds=30)
RETRY_EVERY = timedelta(seconds=2)
"""How soon streams that began during an outage of the store are looked at again."""
_WANTED = "streams to look at"
"""A topic of this process only: it has no sender in the database."""
_MOST_TOLD = 256
"""Ids that a stream remembers. More are never open at once for one agent."""

_log = logging.getLogger("ct_ops_server.dispatch")


@dataclass(frozen=True, slots=True)
class LiveStream:
    """An open heartbeat stream of this process. Claims in the database name its generation (rule 18)."""

    agent_id: str
    generation: int
    features: frozenset[str] = field(default=frozenset(), compare=False)
    """What the agent said it can do; empty for an existing agent."""


class Provider(Protocol):
    """Knows what of one kind of work is due."""

    @property
    def topic(self) -> str:
        """What commands hint at after they have committed something for an agent."""

    async def due(self, streams: Sequence[LiveStream]) -> Mapping[LiveStream, Work]:
        """Return what is due to which of these streams; those with nothing may be left out.

        It may return again what was returned before and has no answer yet: dispatch knows what a stream
        was told. The full list of checks may be returned each time; it is handed on when it is another.
        One call at a time.

        Raises:
            StoreError: the store did not answer; everything is asked for again later.
        """


class Dispatch:
    """The live streams of one process, and what is due to them."""

    def __init__(
        self,
        *,
        hint: Callable[[str], None],
        observe: Callable[[timedelta], None] = lambda _: None,
        monotonic_s: Callable[[], float],
    ) -> None:
        """Prepare a dispatch.

        Args:
            hint: of the bus of this process.
            observe: told how long each thing took from being asked for, or from the beginning of its stream
                if that was later, to being written.
            monotonic_s: a clock for that.
        """
        self._hint = hint
        self._observe = observe
        self._monotonic_s = monotonic_s
        self._providers: list[_Asked] = []
        self._lines: dict[LiveStream, _Line] = {}
        self._wanted: dict[LiveStream, set[_Asked]] = {}

    def serve(self, bus: Bus, providers: Iterable[Provider]) -> None:
        """Have the bus ask these providers. Call it before the bus runs."""
        for provider in providers:
            asked = _Asked(provider)
            self._providers.append(asked)
            bus.subscribe(provider.topic, partial(self._catch_up, asked), every=CATCH_UP_EVERY)
        bus.subscribe(_WANTED, self._look_at_wanted, every=RETRY_EVERY)

    @asynccontextmanager
    async def connected(
        self, stream: LiveStream, write: Callable[[Work], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Hand to this stream what is due to its agent, for as long as the block lasts.

        ``write`` returns when the transport has taken what it was given. It is never called while it runs,
        and deals itself with a stream that has ended.
        """
        line = self._lines[stream] = _Line(stream, write, self._written, began_s=self._monotonic_s())
        self._want(stream, self._providers)
        try:
            yield
        finally:
            del self._lines[stream]
            self._wanted.pop(stream, None)
            await line.close()

    def look_again(self, stream: LiveStream, topic: str) -> None:
        """Ask the provider of ``topic`` for one stream here: what it brought may have made something due."""
        if stream in self._lines:
            self._want(stream, (asked for asked in self._providers if asked.provider.topic == topic))

    def _want(self, stream: LiveStream, providers: Iterable[_Asked]) -> None:
        self._wanted.setdefault(stream, set()).update(providers)
        self._hint(_WANTED)

    async def _catch_up(self, asked: _Asked) -> None:
        await self._look(asked, tuple(self._lines.values()))

    async def _look_at_wanted(self) -> None:
        wanted, self._wanted = self._wanted, {}
        try:
            for asked in self._providers:
                lines = [
                    self._lines[stream]
                    for stream, providers in wanted.items()
                    if asked in providers and stream in self._lines
                ]
                await self._look(asked, lines)
        except BaseException:
            for stream, providers in wanted.items():
                if stream in self._lines:
                    self._wanted.setdefault(stream, set()).update(providers)
            raise

    async def _look(self, asked: _Asked, lines: Iterable[_Line]) -> None:
        async with asked.alone:  # what was read first must not be handed over last
            ready = [line for line in lines if not line.is_busy(asked)]
            if not ready:
                return
            read_at_s = self._monotonic_s()
            due = await asked.provider.due([line.stream for line in ready])
            for line in ready:
                if (work := due.get(line.stream)) is not None:
                    line.hand(work, read_at_s)

    def _written(self, line: _Line, work: Work, read_at_s: float) -> None:
        now_s = self._monotonic_s()
        since_read, since_began = (
            timedelta(seconds=now_s - read_at_s),
            timedelta(seconds=now_s - line.began_s),
        )
        for age in work.ages:
            self._observe(min(age + since_read, since_began))
        if line.again and line.stream in self._lines:
            self._want(line.stream, line.again)
            line.again = set()


@dataclass(eq=False)
class _Asked:
    """A provider, asked one call at a time."""

    provider: Provider
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)


class _Line:
    """The outgoing side of one live stream."""

    def __init__(
        self,
        stream: LiveStream,
        write: Callable[[Work], Awaitable[None]],
        written: Callable[[_Line, Work, float], None],
        *,
        began_s: float,
    ) -> None:
        self.stream = stream
        self.began_s = began_s
        self.again: set[_Asked] = set()
        """Who shall be asked again when it is free."""
        self._write = write
        self._written = written
        self._told = Told()
        self._waiting: list[tuple[Work, float]] = []  # at most one of each provider
        self._writing: asyncio.Task[None] | None = None
        self._closed = False

    def is_busy(self, asked: _Asked) -> bool:
        """Tell whether it cannot take more now; ``asked`` is then asked again when it can."""
        if self._writing is not None:
            self.again.add(asked)
        return self._writing is not None

    def hand(self, work: Work, read_at_s: float) -> None:
        """Write what of ``work`` is news, after what is being written."""
        if self._closed or not (news := self._told.news(work)):
            return
        self._waiting.append((news, read_at_s))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all(), name=f"push to {self.stream.agent_id}")

    async def close(self) -> None:
        """Write nothing more."""
        self._closed = True
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})

    async def _write_all(self) -> None:
        written = list[tuple[Work, float]]()
        try:
            while self._waiting:
                work, read_at_s = self._waiting.pop(0)
                await self._write(work)
                written.append((work, read_at_s))
        finally:
            self._writing = None
        for work, read_at_s in written:
            self._written(self, work, read_at_s)


class Told:
    """What one stream was told. Pure."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._checks: int | None = None
        """A hash of the latest list: the lists of ten thousand agents need not be kept twice."""

    def news(self, work: Work) -> Work:
        """Return what of ``work`` this stream was not told yet, and remember it."""
        return replace(
            work,
            checks=work.checks if self._is_new_list(work) else None,
            queries=tuple(query for query in work.queries if self._is_new_id(f"query {query.query_id}")),
            cancelled_task_ids=tuple(
                task_id for task_id in work.cancelled_task_ids if self._is_new_id(f"cancel {task_id}")
            ),
        )

    def _is_new_list(self, work: Work) -> bool:
        if work.checks is None or hash(work.checks) == self._checks:
            return False
        self._checks = hash(work.checks)
        return True

    def _is_new_id(self, name: str) -> bool:
        if name in self._ids:
            return False
        self._ids[name] = None
        if len(self._ids) > _MOST_TOLD:
            del self._ids[next(iter(self._ids))]
        return True
