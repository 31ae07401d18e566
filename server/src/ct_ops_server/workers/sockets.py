"""The sockets that a parent opens once for all of its workers, and that outlive each of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_ADMIN_BACKLOG = 128


@dataclass(frozen=True)
class SharedSockets:
    """What workers are given."""

    grpc_port: int
    http: socket.socket
    admin: socket.socket

    @property
    def http_port(self) -> int:
        """Where the HTTP app is found."""
        return int(self.http.getsockname()[1])


@contextmanager
def shared_sockets(
    *, grpc: tuple[str | None, int], http: tuple[str, int], admin: Path
) -> Iterator[SharedSockets]:
    """Open them for as long as the block lasts.

    Raises:
        OSError: an address is in use or not ours.
    """
    with ExitStack() as stack:
        reserved = stack.enter_context(_reserved(*grpc))
        family = socket.AF_INET6 if ":" in http[0] else socket.AF_INET
        local = stack.enter_context(socket.create_server(http, family=family))
        yield SharedSockets(
            grpc_port=reserved.getsockname()[1], http=local, admin=stack.enter_context(admin_socket(admin))
        )


@contextmanager
def _reserved(host: str | None, port: int) -> Iterator[socket.socket]:
    """Keep the port for agents without listening: who is bound gets no connections, and nobody else's server the port.

    The first attempt does not share: another server of this user that shares the port would go unnoticed.
    """
    with _bound(host, port, shared=False) as alone:
        found: int = alone.getsockname()[1]
    with _bound(host, found, shared=True) as reserved:
        yield reserved


def _bound(host: str | None, port: int, *, shared: bool) -> socket.socket:
    six = (host is None and socket.has_dualstack_ipv6()) or (host is not None and ":" in host)
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host is not None))
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host or ("::" if six else "0.0.0.0"), port))  # noqa: S104  agents come from everywhere
    except OSError:
        sock.close()
        raise
    return sock


@contextmanager
def admin_socket(path: Path) -> Iterator[socket.socket]:
    """Listen where commands ask the running server; only its owner (and root) can open it."""
    path.unlink(missing_ok=True)  # we hold the data directory: whoever left it there is gone
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(_ADMIN_BACKLOG)
        sock.settimeout(0)
        try:
            yield sock
        finally:
            with suppress(OSError):
                path.unlink()
