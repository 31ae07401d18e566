"""Connecting to an upstream, under a name that tells the upstream who is calling.

Every dialled socket is bound to a fresh abstract name before it connects. The upstream's gRPC shows
it as the RPC's peer, which is all the identity that crosses the socket.

With a full backlog a UNIX socket's non-blocking ``connect`` fails with EAGAIN, while the event loop's
own ``sock_connect`` reports success on a socket that is not connected (rule 5). So we connect
ourselves, try again, and never have more than a bounded number of dials at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_FIRST_RETRY_S = 0.002
_LONGEST_RETRY_S = 0.1

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)


class UpstreamBusyError(Exception):
    """The upstream did not accept within the time allowed."""


def fresh_peer_name() -> str:
    """Return a new abstract socket name (without its leading NUL)."""
    return f"ct-ops-{secrets.token_hex(12)}"


class Dialler:
    """Connects to UNIX sockets, a bounded number of them at a time."""

    def __init__(self, *, at_once: int, timeout_s: float) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._timeout_s = timeout_s

    async def dial(self, path: Path, peer: str, protocol: Callable[[], _Protocol]) -> _Protocol:
        """Connect ``protocol`` to ``path`` from a socket named ``peer``.

        Raises:
            UpstreamBusyError: its backlog stayed full, or it does not listen.
        """
        async with self._turns:
            sock = await self._connect(path, peer)
            _, connected = await asyncio.get_running_loop().create_unix_connection(protocol, sock=sock)
            return connected

    async def _connect(self, path: Path, peer: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(0)
            sock.bind(f"\0{peer}")
            await self._connect_patiently(sock, path)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _connect_patiently(self, sock: socket.socket, path: Path) -> None:
        wait_s = _FIRST_RETRY_S
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    with contextlib.suppress(BlockingIOError):
                        sock.connect(str(path))
                        return
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, _LONGEST_RETRY_S)
        except (OSError, TimeoutError) as error:
            raise UpstreamBusyError(f"{path.name} does not accept: {error!r}") from error
