"""Accepts TCP connections, and refuses those that are too many before TLS costs anything.

An accept loop of our own (rule 4): a silent connection already costs 50 KiB once TLS has started,
so the counting happens on the bare socket. Three limits: connections in their handshake in total and
per address, and all connections together, which follows from the process's descriptor limit.

Whoever is over a limit is closed at once: an honest agent backs off and comes back, and nobody can
fill the backlog for the others.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import resource
import socket
from collections import Counter
from collections.abc import Callable

from ct_ops_server.edge.limits import Limits
from ct_ops_server.edge.proxy_protocol import Balancers
from ct_ops_server.edge.rate_limits import RateLimit

_log = logging.getLogger("ct_ops_server.front_door")
_BACKLOG = 4_096
_ACCEPTS_A_TURN = 64
_DESCRIPTORS_EXHAUSTED_PAUSE_S = 0.5
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def connection_ceiling(limits: Limits) -> int:
    """Return how many connections are served: what was asked for, within what the descriptor limit allows (rule 4)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = int(soft * limits.descriptor_share) // limits.descriptors_per_connection
    return allowed if limits.connections is None else min(limits.connections, allowed)


def raise_descriptor_limit() -> None:
    """Take all the descriptors that this process may have: the soft limit is a courtesy to `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_socket(host: str | None, port: int, *, shared: bool = False) -> socket.socket:
    """Listen on ``host:port``; None means every address, IPv4 and IPv6.

    A ``shared`` port has several listeners, and the kernel gives each connection to one of them.

    Raises:
        OSError: the address is in use or not ours.
    """
    if host is None and socket.has_dualstack_ipv6():
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True, reuse_port=shared
        )
    family = socket.AF_INET6 if host is not None and ":" in host else socket.AF_INET
    anywhere = "0.0.0.0"  # noqa: S104  agents come from everywhere
    return socket.create_server((host or anywhere, port), family=family, backlog=_BACKLOG, reuse_port=shared)


def plain_address(host: str) -> str:
    """Return the address as people write it: an IPv4 address that came over IPv6 is IPv4."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


class Listener:
    """Accepts on one socket and hands on what is within the limits."""

    def __init__(
        self,
        sock: socket.socket,
        limits: Limits,
        *,
        balancers: Balancers,
        on_accepted: Callable[[socket.socket, str], None],
        on_refused: Callable[[str, str], None],
    ) -> None:
        self._socket = sock
        self._limits = limits
        self._balancers = balancers
        self._ceiling = connection_ceiling(limits)
        self._on_accepted = on_accepted
        self._on_refused = on_refused
        self._in_handshake: Counter[str] = Counter()
        self._handshakes = 0
        self._open = 0
        self._loop = asyncio.get_running_loop()
        now_s = self._loop.time
        self._rate = RateLimit(limits.connections_per_second, now_s=now_s, window_s=1)
        self._rate_of_address = RateLimit(limits.connections_per_second_per_address, now_s=now_s, window_s=1)
        sock.settimeout(0)

    def start(self) -> None:
        """Accept from now on."""
        self._loop.add_reader(self._socket, self._accept_some)

    def stop(self) -> None:
        """Accept no more and close the socket. Connections stay."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def is_balancer(self, address: str) -> bool:
        """Return whether connections from there are somebody else's, who is not known yet."""
        return address in self._balancers

    def named(self, address: str) -> str | None:
        """Count a connection of a balancer's for its client; return why there is no room for that one."""
        if reason := self._over_limit_of(address):
            return reason
        self._in_handshake[address] += 1
        return None

    def handshake_ended(self, address: str | None) -> None:
        """Give the place of a handshake back; ``address`` is whom it was counted for, None: nobody yet."""
        self._handshakes -= 1
        if address is None:
            return
        self._in_handshake[address] -= 1
        if self._in_handshake[address] <= 0:
            del self._in_handshake[address]

    def connection_ended(self) -> None:
        """Give the place of a connection back."""
        self._open -= 1

    def _accept_some(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                accepted, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_DESCRIPTORS:
                    raise
                self._pause(error)
                return
            self._admit(accepted, plain_address(peer[0]))

    def _admit(self, accepted: socket.socket, address: str) -> None:
        behind_balancer = self.is_balancer(address)
        reason = self._over_limit() or (None if behind_balancer else self._over_limit_of(address))
        if reason:
            accepted.close()
            self._on_refused(address, reason)
            return
        self._open += 1
        self._handshakes += 1
        if not behind_balancer:
            self._in_handshake[address] += 1
        accepted.settimeout(0)
        self._on_accepted(accepted, address)

    def _over_limit(self) -> str | None:
        if self._open >= self._ceiling:
            return "too many connections"
        if self._handshakes >= self._limits.handshakes:
            return "too many handshakes"
        if self._rate.wait_s(""):
            return "too many connections a second"
        return None

    def _over_limit_of(self, address: str) -> str | None:
        if self._in_handshake[address] >= self._limits.handshakes_per_address:
            return "too many handshakes from this address"
        if self._rate_of_address.wait_s(address):
            return "too many connections a second from this address"
        return None

    def _pause(self, error: OSError) -> None:
        _log.error("accepting pauses: %s", error.strerror)
        self._loop.remove_reader(self._socket)
        self._loop.call_later(_DESCRIPTORS_EXHAUSTED_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._socket.fileno() != -1:
            self.start()
