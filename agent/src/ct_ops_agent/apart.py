"""Blocking work in a thread of its own, which may hang for ever without harm.

A shared pool of threads would do until as many calls hang as it has threads (a dead network file system,
a name server that does not answer): then everybody waits. A thread each costs some 50 microseconds and
can be left behind. Whoever starts work asks `is_alive` first and starts no second one beside it, so what
hangs does not pile up. The threads are daemons: none of them delays the agent's end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_threads: WeakSet[threading.Thread] = WeakSet()


def is_apart(thread: threading.Thread) -> bool:
    """Whether a thread is one of these, whoever asked for it."""
    return thread in _threads


class Apart(Generic[T]):
    """One call of a blocking function, started at once. Made on the event loop."""

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[T] = self._loop.create_future()
        self._returned = threading.Event()
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        _threads.add(thread)
        thread.start()

    @property
    def is_alive(self) -> bool:
        """The call has not returned; its thread may live a moment longer."""
        return not self._returned.is_set()

    async def wait(self, seconds: float) -> T:
        """Return what the call returned, or raise what it raised.

        Raises:
            TimeoutError: it takes longer, and goes on.
        """
        async with asyncio.timeout(seconds):
            return await asyncio.shield(self._outcome)

    def _run(self) -> None:
        try:
            result = self._work()
        except BaseException as error:  # noqa: BLE001  whatever it is belongs to whoever waits
            self._tell(self._fail, error)
        else:
            self._tell(self._succeed, result)

    def _tell(self, action: Callable[..., None], value: object) -> None:
        self._returned.set()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(action, value)

    def _succeed(self, result: T) -> None:
        if not self._outcome.done():
            self._outcome.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(error)
            self._outcome.exception()  # whoever waited may be gone; then it is nobody's
