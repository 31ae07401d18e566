"""What a worker tells its parent: that it is ready, and that its event loop still turns.

One byte each: there is nothing to parse, and nothing that could arrive in halves. The other way nothing is said;
the end of the line is the news that the parent has gone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

READY = b"R"
ALIVE = b"A"
ALIVE_EVERY_S = 2.0


class LineToParent:
    """The worker's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()

    def on_end(self, parent_gone: Callable[[], None]) -> None:
        """Call ``parent_gone`` when the parent has gone."""

        def heard() -> None:
            with suppress(BlockingIOError, ConnectionError):
                if self._socket.recv(64):
                    return
            self._loop.remove_reader(self._socket)
            parent_gone()

        self._loop.add_reader(self._socket, heard)

    def ready(self) -> None:
        """Tell that agents are served."""
        self._say(READY)

    def alive(self) -> None:
        """Tell that the event loop turns."""
        self._say(ALIVE)

    def close(self) -> None:
        """Say no more."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _say(self, word: bytes) -> None:
        # A parent that does not listen is gone, which `on_end` tells, or busy: it has heard of us lately.
        with suppress(OSError):
            self._socket.send(word)


class LineToWorker:
    """The parent's end."""

    def __init__(self, sock: socket.socket, *, now_s: Callable[[], float]) -> None:
        self._socket = sock
        self._now_s = now_s
        self._loop = asyncio.get_running_loop()
        self.ready = asyncio.Event()
        self.heard_s = now_s()
        """When the worker said something last."""
        sock.settimeout(0)
        self._loop.add_reader(sock, self._hear)

    def close(self) -> None:
        """End the line: a worker that still lives stops."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _hear(self) -> None:
        try:
            words = self._socket.recv(4096)
        except BlockingIOError:
            return
        except ConnectionError:
            words = b""
        if not words:
            self._loop.remove_reader(self._socket)
            return
        self.heard_s = self._now_s()
        if READY in words:
            self.ready.set()
