"""Waiting with an end, for those who wait thousands of times a second.

``asyncio.timeout`` makes a timer for every wait and takes it back. A stream waits twice for each frame, and
nearly always for a small part of what it has patience for, so here one timer serves all the waits of a
``Patience``: it rings once in a while, and looks whether the wait of that moment has taken too long.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class Patience:
    """Bounds one wait after the other. To be closed, or its timer keeps whoever waited alive."""

    __slots__ = ("_is_over", "_loop", "_task", "_timer", "_until_s")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._until_s = math.inf
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the timer."""
        del kind, error, trace
        if self._timer is not None:
            self._timer.cancel()

    async def wait(self, answer: Awaitable[T], seconds: float) -> T:
        """Return what the awaitable returns.

        Raises:
            TimeoutError: it took longer than so many seconds, and was cancelled.
        """
        task = asyncio.current_task()
        assert task is not None
        self._task, self._is_over, cancelled_before = task, False, task.cancelling()
        self._until_s = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._until_s:
            self._ring_at(self._until_s)
        try:
            return await answer
        except asyncio.CancelledError:
            # As asyncio.timeout does: whoever else cancelled the task meanwhile is obeyed.
            if self._is_over and task.uncancel() <= cancelled_before:
                raise TimeoutError from None
            raise
        finally:
            self._until_s, self._task = math.inf, None

    def _ring_at(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:
            return  # nobody waits now; the next wait sets the timer
        if self._loop.time() < self._until_s:
            self._ring_at(self._until_s)
        else:
            self._is_over = True
            self._task.cancel()
