"""The front door: terminates TLS, decides who is calling, and chooses where their bytes go.

    accepted ──► handshake ──► who is it? ──► room left? ──► dial ──► relay
        │            │                             │           │
        └────────────┴──── closed, logged once, counted ───────┘

Three upstreams (rule 2): ``lobby`` for gRPC callers without a valid identity, ``agents`` for those
with one, ``http`` for http/1.1. One anonymous connection could park hundreds of megabytes in a server
with an agent's limits; in the lobby it cannot.

A leaf of an authority that we do not know fails inside OpenSSL, and existing agents present theirs
always. So after such a failure the next connection of that address, within a few seconds, is not
asked for a leaf: it reaches Register, and everything else on it answers UNAVAILABLE, because
another agent behind the same address must not be told that it is nobody.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ct_ops_server.authority.leaf_identity import LeafIdentity, LeafOfAgent
from ct_ops_server.edge.callers import Caller, Callers
from ct_ops_server.edge.connection_log import ConnectionLog
from ct_ops_server.edge.dialling import Dialler, UpstreamBusyError, fresh_peer_name
from ct_ops_server.edge.limits import Limits
from ct_ops_server.edge.listener import Listener, open_socket
from ct_ops_server.edge.metrics import EdgeMetrics
from ct_ops_server.edge.proxy_protocol import Balancers, ProxyHeaderError, read_client, reader_of
from ct_ops_server.edge.relay import TlsSide, UpstreamSide
from ct_ops_server.edge.spread import HandshakeRate
from ct_ops_server.edge.tls import TlsContexts

_WATCH_INTERVAL_S = 1.0
_FLUSH_POLL_S = 0.02
_UNASKED_REMEMBERED = 10_000
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}
"""X509_V_ERR: self-signed, self-signed in chain, no local issuer, leaf signature not verifiable."""


class Room(enum.Enum):
    """Where a connection is taken to."""

    LOBBY = "lobby"
    AGENTS = "agents"
    HTTP = "http"


@dataclass(frozen=True)
class Upstreams:
    """UNIX sockets in a folder that only we can enter."""

    lobby: Path
    agents: Path
    http: Path

    def path(self, room: Room) -> Path:
        """Return the socket of a room."""
        return {Room.LOBBY: self.lobby, Room.AGENTS: self.agents, Room.HTTP: self.http}[room]


@dataclass(eq=False, slots=True)
class _Connection:
    side: TlsSide
    caller: Caller
    room: Room
    peer: str


class FrontDoor:
    """The TLS listener of one process."""

    def __init__(
        self,
        *,
        contexts: TlsContexts,
        identify: Callable[[bytes | None], LeafIdentity],
        upstreams: Upstreams,
        callers: Callers,
        limits: Limits,
        metrics: EdgeMetrics,
        balancers: Balancers,
    ) -> None:
        self._balancers = balancers
        self._contexts = contexts
        self._identify = identify
        self._upstreams = upstreams
        self._callers = callers
        self._limits = limits
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._dialler = Dialler(at_once=limits.dials, timeout_s=limits.dial_timeout_s)
        self._refusals = ConnectionLog(self._loop.time)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[TlsSide, _Connection] = {}
        self._occupancy: Counter[tuple[Room, str]] = Counter()
        self._unasked: dict[str, float] = {}
        self._listener: Listener | None = None
        self.handshakes = HandshakeRate()
        self._watch: asyncio.Task[None] | None = None

    def open(self, host: str | None, port: int, *, shared: bool = False) -> int:
        """Listen and accept; return the port (chosen by the system when ``port`` is 0).

        Args:
            host: None: every address.
            port: where.
            shared: with other processes of ours that listen there too.
        """
        sock = open_socket(host, port, shared=shared)
        bound: int = sock.getsockname()[1]
        self._listener = Listener(
            sock,
            self._limits,
            balancers=self._balancers,
            on_accepted=self._accepted,
            on_refused=self._refused,
        )
        self._listener.start()
        self._watch = asyncio.create_task(self._watch_visitors(), name="front door: visitors")
        return bound

    def present(self, contexts: TlsContexts) -> None:
        """Present another certificate to whoever connects from now on."""
        self._contexts = contexts

    def stop_accepting(self) -> None:
        """Let nobody new in; connections stay open."""
        if self._listener is not None:
            self._listener.stop()

    async def close(self) -> None:
        """Let agents' connections end whose upstream has ended, with what was written to them; cut what is left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.flush_s):
                await self._flush()
        if self._watch is not None:
            self._watch.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        for connection in tuple(self._connections.values()):
            connection.side.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _flush(self) -> None:
        """Wait until agents' upstreams have ended and their last bytes are on their way; not for agents' goodbyes."""
        while self._occupancy[Room.AGENTS, ""]:
            await asyncio.sleep(_FLUSH_POLL_S)
            if not any(
                each.room is Room.AGENTS and each.side.has_unsent for each in self._connections.values()
            ):
                return

    def _accepted(self, sock: socket.socket, address: str) -> None:
        task = self._loop.create_task(self._serve(sock, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refused(self, address: str, reason: str, detail: str = "") -> None:
        """Count under ``reason``, one of few; only the log hears the detail."""
        self._metrics.connections_refused.labels(reason=reason).inc()
        self._refusals.refused(address, f"{reason} ({detail})" if detail else reason)

    def _no_handshake(self, address: str, kind: str, reason: str, detail: str = "") -> None:
        self._metrics.handshakes_failed.labels(reason=kind).inc()
        self._refused(address, reason, detail)

    async def _serve(self, sock: socket.socket, peer: str) -> None:
        """Take one connection from its first byte to its upstream."""
        assert self._listener is not None
        address = await self._client_behind(sock, peer) if self._listener.is_balancer(peer) else peer
        if address is None:
            sock.close()
            self._listener.handshake_ended(None)
            self._listener.connection_ended()
            return
        await self._greet(sock, address)

    async def _client_behind(self, sock: socket.socket, balancer: str) -> str | None:
        """Return whose connection it is and count it as theirs; None when it cannot go on."""
        assert self._listener is not None
        try:
            async with asyncio.timeout(self._limits.proxy_header_s):
                client = await read_client(reader_of(sock)) or balancer
        except ProxyHeaderError as error:
            self._refused(balancer, str(error))
        except TimeoutError:
            self._refused(balancer, f"no PROXY header within {self._limits.proxy_header_s:g} s")
        except OSError:
            self._refused(balancer, "left before the end of its PROXY header")
        else:
            reason = self._listener.named(client)
            if reason is None:
                return client
            self._refused(client, reason)
        return None

    async def _greet(self, sock: socket.socket, address: str) -> None:
        asked = not self._may_stay_unasked(address)
        try:
            side = await self._handshake(
                sock, address, self._contexts.asking if asked else self._contexts.not_asking
            )
        finally:
            assert self._listener is not None
            self._listener.handshake_ended(address)
        if side is None:
            self._listener.connection_ended()
            return
        await self._admit(side, address, asked=asked)

    async def _handshake(self, sock: socket.socket, address: str, context: ssl.SSLContext) -> TlsSide | None:
        began_s = self._loop.time()
        side = TlsSide()  # uvloop returns its own TLS protocol instead of the one it was given
        try:
            await self._loop.connect_accepted_socket(
                lambda: side,
                sock,
                ssl=context,
                ssl_handshake_timeout=self._limits.handshake_timeout_s,
                ssl_shutdown_timeout=self._limits.tls_shutdown_timeout_s,
            )
        except ssl.SSLCertVerificationError as error:
            is_unknown = error.verify_code in _UNKNOWN_AUTHORITY
            if is_unknown:
                self._leave_unasked(address)
            kind = "unknown_authority" if is_unknown else "certificate"
            self._no_handshake(address, kind, "its certificate is not acceptable", error.verify_message)
        except ssl.SSLError as error:
            said = (error.reason or "garbage").lower().replace("_", " ")
            self._no_handshake(address, "protocol", "no TLS handshake", said)
        except (ConnectionAbortedError, TimeoutError):
            self._no_handshake(
                address,
                "timeout",
                f"TLS handshake not finished within {self._limits.handshake_timeout_s:g} s",
            )
        except OSError:
            self._no_handshake(address, "left", "left during the TLS handshake")
        else:
            self._metrics.handshakes.inc()
            self._metrics.handshake_seconds.observe(self._loop.time() - began_s)
            self.handshakes.done()
            return side
        return None

    async def _admit(self, side: TlsSide, address: str, *, asked: bool) -> None:
        assert side.transport is not None
        tls: ssl.SSLObject = side.transport.get_extra_info("ssl_object")
        caller = Caller(self._identify(tls.getpeercert(binary_form=True)), address, was_asked_for_leaf=asked)
        connection = _Connection(side, caller, _room(tls, caller), fresh_peer_name())
        self._enter(connection)
        if reason := self._no_room(connection):
            self._refused(address, reason)
            side.abort()
            return
        try:
            upstream = await self._dialler.dial(
                self._upstreams.path(connection.room), connection.peer, lambda: UpstreamSide(side)
            )
        except UpstreamBusyError as error:
            self._refused(address, "the server behind the front door does not accept", str(error))
            side.abort()
            return
        if not side.attach(upstream):
            upstream.abort()

    def _enter(self, connection: _Connection) -> None:
        """Make the connection count and findable, before anything is read about its agent."""
        side, caller = connection.side, connection.caller
        side.on_lost = lambda: self._leave(connection)
        caller.on_abort(side.abort)
        self._connections[side] = connection
        self._occupancy[connection.room, ""] += 1
        self._occupancy[connection.room, caller.address] += 1
        self._callers.enter(connection.peer, caller)
        self._metrics.connections.labels(room=connection.room.value).inc()
        if side.is_closing:
            self._leave(connection)

    def _leave(self, connection: _Connection) -> None:
        if self._connections.pop(connection.side, None) is None:
            return
        for key in ((connection.room, ""), (connection.room, connection.caller.address)):
            self._occupancy[key] -= 1
            if not self._occupancy[key]:
                del self._occupancy[key]
        self._callers.leave(connection.peer)
        self._metrics.connections.labels(room=connection.room.value).dec()
        assert self._listener is not None
        self._listener.connection_ended()

    def _no_room(self, connection: _Connection) -> str | None:
        limits, room = self._limits, connection.room
        total, of_address = {
            Room.AGENTS: (None, None),
            Room.LOBBY: (limits.lobby_connections, limits.lobby_connections_per_address),
            Room.HTTP: (limits.http_connections, limits.http_connections_per_address),
        }[room]
        if total is not None and self._occupancy[room, ""] > total:
            return f"too many connections in the {room.value} room"
        if of_address is not None and self._occupancy[room, connection.caller.address] > of_address:
            return f"too many connections of this address in the {room.value} room"
        return None

    def _leave_unasked(self, address: str) -> None:
        if len(self._unasked) < _UNASKED_REMEMBERED:
            self._unasked[address] = self._loop.time() + self._limits.unknown_authority_grace_s

    def _may_stay_unasked(self, address: str) -> bool:
        until = self._unasked.pop(address, None)
        return until is not None and self._loop.time() < until

    async def _watch_visitors(self) -> None:
        """Close visitors who sit idle, http visitors who stay too long, and write the log's summaries."""
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            self._refusals.flush()
            now = self._loop.time()
            self.handshakes.look(now)
            self._unasked = {address: until for address, until in self._unasked.items() if now < until}
            for connection in tuple(self._connections.values()):
                if self._outstayed(connection):
                    connection.side.abort()

    def _outstayed(self, connection: _Connection) -> bool:
        limits, side = self._limits, connection.side
        if connection.room is Room.LOBBY:
            return side.idle_s() > limits.lobby_idle_s
        if connection.room is Room.HTTP:
            return side.idle_s() > limits.http_idle_s or side.age_s() > limits.http_age_s
        return False


def _room(tls: ssl.SSLObject, caller: Caller) -> Room:
    if tls.selected_alpn_protocol() != "h2":
        return Room.HTTP
    return Room.AGENTS if isinstance(caller.identity, LeafOfAgent) else Room.LOBBY
