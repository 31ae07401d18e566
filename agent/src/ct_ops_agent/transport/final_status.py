"""The status with which the server ended a stream, also when it did so while this side was writing.

gRPC for Python loses it then: the write that fails puts "INTERNAL: Internal error from Core" in its place
(https://github.com/grpc/grpc/issues/36066). An agent that was revoked would so hear of a broken stream. The
status can be had at the very moment it comes, from a callback, which runs before anything overwrites it.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import grpc

_R = TypeVar("_R")
_MADE_UP = "Internal error from Core"
_LONGEST_WAIT_S = 0.5
"""For a status that is on its way while the failed write is known already; it may also never come."""


class FinalStatus:
    """Keeps what the server said at the end of one call."""

    def __init__(self, call: Any) -> None:
        """Begin to listen; has to be done before the call can end."""
        self._said: grpc.aio.AioRpcError | None = None
        self._is_known = asyncio.Event()
        call.add_done_callback(self._note)

    async def instead_of(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Return what the server said; ``error`` itself when that is it, or nothing else is known."""
        if not _is_made_up(error):
            return error
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_WAIT_S):
                await self._is_known.wait()
        return self._said or error

    def _note(self, call: Any) -> None:
        said = grpc.aio.AioRpcError(
            _at_once(call.code()),
            _at_once(call.initial_metadata()),
            _at_once(call.trailing_metadata()),
            _at_once(call.details()),
        )
        if self._said is None and not _is_made_up(said):
            self._said = said
            self._is_known.set()


def _is_made_up(error: grpc.aio.AioRpcError) -> bool:
    return (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, _MADE_UP)


def _at_once(answer: Coroutine[Any, Any, _R]) -> _R:
    """Return the result of a coroutine that has nothing to wait for: that of a call that has ended."""
    try:
        answer.send(None)
    except StopIteration as done:
        result: _R = done.value
        return result
    answer.close()
    raise RuntimeError("a call that has ended still waits for its status")
