"""Attempt: one run of a check in its thread, with the time it has left and a way to cut it short.

A timeout on a socket bounds one call. A peer that sends a byte a second keeps each call short and all of
them endless. So every call gets what is *left* of the whole, and whoever gives up on the attempt shuts the
sockets it watches, which wakes the thread inside whatever it is waiting in.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Attempt:
    """Shared by the thread that works and the event loop that waits for it."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ends = monotonic() + seconds
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._is_over = False

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            TimeoutError: none.
        """
        left = self._ends - self._monotonic()
        if left <= 0 or self._is_over:
            raise TimeoutError("timed out")
        return left

    @contextmanager
    def watching(self, connection: socket.socket) -> Iterator[None]:
        """Shut this connection when the attempt is given up; close it afterwards."""
        with self._lock:
            self._watched.append(connection)
        try:
            if self._is_over:  # given up between its making and now
                raise TimeoutError("timed out")
            yield
        finally:
            with self._lock:
                self._watched.remove(connection)
            connection.close()

    def give_up(self) -> None:
        """End it: the thread finds its connections shut. Safe from any thread, and more than once."""
        self._is_over = True
        with self._lock:
            for connection in self._watched:
                with suppress(OSError):
                    # Not the method of a TLS socket, which would change what the thread is using.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)


def connect(host: str, port: int, attempt: Attempt) -> socket.socket:
    """Open a TCP connection to the first address that answers, in what is left of the time.

    `socket.create_connection` gives each address the whole timeout; here a name with four dead addresses
    takes no longer than a name with one, and an early one leaves time for the others.

    Raises:
        OSError: none answers; the first reason.
    """
    found = _resolve(host, port)
    first: OSError | None = None
    for index, (family, kind, protocol, _, address) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(attempt.left() / (len(found) - index))
            connection.connect(address)
        except OSError as error:
            connection.close()
            first = first or error
        else:
            return connection
    raise first or OSError(f"{host} has no address")


def _resolve(host: str, port: int) -> list[tuple[int, int, int, str, tuple[Any, ...]]]:
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except UnicodeError as error:  # what cannot even be written as a name, such as "a..b"
        raise OSError(f"{host!r} is no name of a host") from error
