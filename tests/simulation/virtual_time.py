"""An event loop whose time is a number: nothing waits, and five years pass in a second.

When nothing is ready the clock goes to the next timer. Whatever would leave the loop is not there: what is
handed to a thread runs at once, and no socket is ever read. So a history is its seed, and nothing else.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple, Unpack

_Ts = TypeVarTuple("_Ts")
_R = TypeVar("_R")
_RESOLUTION_S = 1e-6
"""Seconds of five years have no finer one as floating-point numbers."""


class NothingHappensError(Exception):
    """Everything waits for something that nothing will ever do."""


class _Clockwork(selectors.SelectSelector):
    """Selects nothing; waiting moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingHappensError
        self.now_s += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only where everybody waits for it."""

    def __init__(self) -> None:
        self._clockwork = _Clockwork()
        super().__init__(self._clockwork)
        self._clock_resolution = _RESOLUTION_S

    def time(self) -> float:
        return self._clockwork.now_s

    def run_in_executor(
        self, _executor: Executor | None, func: Callable[[Unpack[_Ts]], _R], *args: *_Ts
    ) -> asyncio.Future[_R]:
        """Do it here and now: a thread would have a time of its own."""
        future: asyncio.Future[_R] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            future.set_exception(error)
        return future
