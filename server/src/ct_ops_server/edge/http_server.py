"""Runs ASGI apps with uvicorn inside the process's own event loop.

Signals belong to ``app``, so uvicorn's handling of them is switched off (it would stop HTTP first and
then raise the signal again). ``PeerChecked`` is the protocol of the admin socket: it looks at the peer's
credentials before it reads a byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ct_ops_server.edge.actors import client_for
from ct_ops_server.edge.peer import peer_of

_KEEP_ALIVE_S = 15
_SHUTDOWN_S = 2


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """One ASGI app on one listening socket."""

    def __init__(
        self, app: Any, sock: socket.socket, *, protocol: type[asyncio.Protocol] | str = "httptools"
    ) -> None:
        self._socket = sock
        config = uvicorn.Config(
            app,
            loop="none",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve from now on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http server")

    async def stop(self) -> None:
        """Finish what is under way, at most two seconds, and close the socket."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()


class PeerChecked(HttpToolsProtocol):
    """Serves root and our own user, and nobody else who got hold of the socket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close connections of other users unread, and let the app know whose this is."""
        super().connection_made(transport)
        peer = peer_of(transport.get_extra_info("socket"))
        if peer is None:
            return
        if not peer.may_operate:
            transport.abort()
        self.client = client_for(peer)


def unix_socket(path: Path) -> socket.socket:
    """Listen on a UNIX socket that only its owner (and root) can open."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(before)
    sock.listen(128)
    sock.settimeout(0)
    return sock
