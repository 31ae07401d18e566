"""The network between simulated hosts and the server, in the place of gRPC over TLS.

Both ends are the real ones: the agent's ``GrpcSession`` on this side, the server's RPC handlers on the other,
bytes in between. What gRPC and OpenSSL do is done here:

* the handshake: the agent believes the server's certificate by its roots and *its own* clock; the server takes a
  leaf of any authority it ever used, whose key its bearer holds, and then decides who that is (rule 1);
* statuses with trailing metadata, deadlines, end of stream, cancellation;
* what goes wrong: a host cut off, a server that is down, replies that are lost, and connections of which the
  server does not hear that they are gone, so that what was under way arrives later (rule 18).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ct_ops_agent.control_plane import Route
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.identity.keystore import parse_pem
from ct_ops_agent.transport.control_plane import GrpcSession
from ct_ops_server.edge.callers import Caller

if TYPE_CHECKING:
    from simulation.fleet_server import Serving

_R = TypeVar("_R")

SPEAKER: ContextVar[str] = ContextVar("SPEAKER")
"""Who really is on the connection that the running handler serves: the simulation knows, the server does not."""

LEAF: ContextVar[bytes | None] = ContextVar("LEAF", default=None)
"""The leaf that was presented on that connection."""

_GONE_AFTER_S = 80.0
"""How long the server does not notice a connection that is gone: until a PING goes unanswered."""


class AbortedError(Exception):
    """A handler ended its RPC with a status."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, str], ...]) -> None:
        super().__init__(details)
        self.code, self.details, self.metadata = code, details, metadata


def failure(
    code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, str], ...] = ()
) -> grpc.aio.AioRpcError:
    """Return what gRPC raises on the agent's side."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details)


def unavailable(details: str) -> grpc.aio.AioRpcError:
    """Return the failure of a connection."""
    return failure(grpc.StatusCode.UNAVAILABLE, details)


@dataclass
class Place:
    """Where somebody connects from."""

    name: str
    """Who it really is."""
    address: str
    wall: Callable[[], float]
    dice: random.Random
    is_cut_off: bool = False
    bad: float = 0.0
    """Share of exchanges that are cut off in the middle."""
    connections: list[Connection] = field(default_factory=list)

    def cut(self) -> None:
        """Lose every connection, without a farewell."""
        for connection in list(self.connections):
            connection.lose()


class Network:
    """Leads to the one server there is, when it runs."""

    def __init__(self) -> None:
        self.serving: Serving | None = None
        self.faults: list[str] = []
        """What a handler let through that is no refusal: defects of the server."""
        self.heard: deque[bytes] = deque(maxlen=200)
        """The latest Registers, as somebody who listens has them."""

    def connector(self, place: Place) -> Connector:
        """Return what opens sessions from a place."""
        return Connector(self, place)

    def dial(self, route: Route, identity: Identity | None, place: Place) -> Connection:
        """Complete a handshake, or raise what gRPC raises."""
        serving = self.serving
        if place.is_cut_off:
            raise unavailable("Deadline Exceeded")
        if serving is None:
            raise unavailable("Connection refused")
        _must_be_believed(
            serving.parts.served_tls.current.chain_pem,
            route.roots_pem,
            datetime.fromtimestamp(place.wall(), UTC),
        )
        leaf_der = _shown(identity)
        if leaf_der is not None and not serving.completes_handshake(leaf_der):
            raise unavailable("Socket closed")
        return Connection(self, serving, place, leaf_der)


def _shown(identity: Identity | None) -> bytes | None:
    """Return the leaf that is presented; who does not hold its key cannot present it."""
    if identity is None:
        return None
    if not identity.keys.certified_by(identity.leaf_pem):
        raise unavailable("Failed to create security handshaker")
    return next(der for label, der in parse_pem(identity.leaf_pem) if label == "CERTIFICATE")


def _must_be_believed(chain_pem: str, roots_pem: str, now: datetime) -> None:
    """Believe what is served as a TLS library does: by any way that leads to a root, all of it inside its dates."""
    ways = _ways(chain_pem, roots_pem)
    if not ways:
        raise unavailable("CERTIFICATE_VERIFY_FAILED")
    for way in ways:
        if all(each.not_valid_before_utc <= now <= each.not_valid_after_utc for each in way):
            return
    is_over = any(now > each.not_valid_after_utc for each in ways[0])
    raise unavailable("certificate has expired" if is_over else "certificate is not yet valid")


@lru_cache(maxsize=1_000)
def _ways(chain_pem: str, roots_pem: str) -> tuple[tuple[x509.Certificate, ...], ...]:
    leaf, *others = x509.load_pem_x509_certificates(chain_pem.encode())
    roots = x509.load_pem_x509_certificates(roots_pem.encode()) if roots_pem else []
    return tuple(_ways_on((leaf,), others, roots))


def _ways_on(
    way: tuple[x509.Certificate, ...], others: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> Iterator[tuple[x509.Certificate, ...]]:
    """Go on from the end of a way: to a root, or by way of what was shown beside."""
    yield from ((*way, root) for root in roots if is_signed_by(way[-1], root))
    for other in others:
        if other not in way and is_signed_by(way[-1], other):
            yield from _ways_on((*way, other), others, roots)


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether an authority signed a certificate, whatever the dates."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


@lru_cache(maxsize=100)
def certificates_of(pem: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a file."""
    return tuple(x509.load_pem_x509_certificates(pem.encode()))


def leads_to_root(certificate: x509.Certificate, store: Sequence[x509.Certificate]) -> bool:
    """Tell whether a certificate leads to one that signed itself: an intermediate in the store does not do (no partial chains)."""
    above = [each for each in store if each.subject == certificate.issuer and is_signed_by(certificate, each)]
    return any(each.subject == each.issuer or leads_to_root(each, store) for each in above)


class Connection:
    """One connection, from its handshake on. Both a channel for the agent and a peer for the server."""

    def __init__(self, network: Network, serving: Serving, place: Place, leaf_der: bytes | None) -> None:
        self.place = place
        self.leaf_der = leaf_der
        self._network = network
        self.serving = serving
        self.peer = serving.next_peer()
        self._caller = Caller(serving.identify(leaf_der), place.address)
        self._caller.on_abort(self.end)
        serving.parts.callers.enter(self.peer, self._caller)
        serving.connections.add(self)
        place.connections.append(self)
        self.is_lost = False
        self.calls: set[Call] = set()

    async def unary(self, method: str, raw: bytes) -> bytes:
        """Make a call; its request, or its reply, may be lost."""
        if method == "Register":
            self._network.heard.append(raw)
        fault = self._fault()
        if fault == "request":
            raise self._lost()
        context = Context(self)
        answer = await self._handle(self.serving.unary(method)(raw, context))
        if fault == "reply" or self.is_lost:
            raise self._lost()
        return answer

    async def _handle(self, answering: Coroutine[Any, Any, bytes]) -> bytes:
        task = self.serve(answering)
        try:
            return await task
        except AbortedError as aborted:
            raise failure(aborted.code, aborted.details, aborted.metadata) from None

    def serve(self, answering: Coroutine[Any, Any, _R]) -> asyncio.Task[_R]:
        """Run a handler; the ledger knows who is on this connection."""
        context = copy_context()
        context.run(SPEAKER.set, self.place.name)
        context.run(LEAF.set, self.leaf_der)
        return asyncio.create_task(answering, name=f"serving {self.place.name}", context=context)

    def stream(self) -> Call:
        """Open a heartbeat stream."""
        return Call(self)

    def note_fault(self, error: BaseException) -> None:
        """Remember a defect of the server."""
        self._network.faults.append(f"a handler failed: {error!r}")

    def loses_something(self) -> bool:
        """Tell whether this exchange is cut off."""
        return self._fault() is not None

    def _fault(self) -> str | None:
        if self.place.dice.random() >= self.place.bad:
            return None
        return self.place.dice.choice(("request", "reply"))

    def _lost(self) -> grpc.aio.AioRpcError:
        self.lose()
        return unavailable("Connection reset by peer" if self.leaf_der is None else "recvmsg: lost")

    def lose(self) -> None:
        """Be gone for the agent; the server notices later."""
        if self.is_lost:
            return
        self.is_lost = True
        for call in list(self.calls):
            call.fail(unavailable("recvmsg: lost"))
        self._forget_place()
        asyncio.get_running_loop().call_later(_GONE_AFTER_S, self.end)

    def end(self) -> None:
        """Be gone for both."""
        self._forget_place()
        self.serving.connections.discard(self)
        self.serving.parts.callers.leave(self.peer)
        for call in list(self.calls):
            call.fail(unavailable("recvmsg: closed"))
            call.hang_up()

    def _forget_place(self) -> None:
        if self in self.place.connections:
            self.place.connections.remove(self)


class Context:
    """What a handler knows of its RPC."""

    def __init__(self, connection: Connection, call: Call | None = None) -> None:
        self._connection = connection
        self._call = call

    def peer(self) -> str:
        return f"unix-abstract:{self._connection.peer}"

    async def abort(
        self, code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        raise AbortedError(code, details, metadata)

    async def read(self) -> object:
        assert self._call is not None
        return await self._call.requests.get()

    async def write(self, message: bytes) -> None:
        assert self._call is not None
        self._call.replied(message)


class Call:
    """A stream, as the agent's side of gRPC shows it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.requests: asyncio.Queue[object] = asyncio.Queue()
        self._replies: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._outcome: grpc.aio.AioRpcError | None = None
        self._callbacks: list[Callable[[Any], None]] = []
        connection.calls.add(self)
        self._handler = connection.serve(self._serve())

    async def _serve(self) -> None:
        try:
            await self._connection.serving.heartbeat(Context(self._connection, self))
        except AbortedError as aborted:
            self.fail(failure(aborted.code, aborted.details, aborted.metadata))
        except Exception as error:  # noqa: BLE001 - judged at the end of the history
            self._connection.note_fault(error)
            self.fail(failure(grpc.StatusCode.UNKNOWN, repr(error)))
        else:
            self.fail(failure(grpc.StatusCode.OK, ""))

    # ---- the server's side

    def replied(self, message: bytes) -> None:
        """A reply is under way; on a connection that is lost it goes nowhere."""
        if self._outcome is None and not self._connection.is_lost:
            self._replies.put_nowait(message)

    def hang_up(self) -> None:
        """The connection is gone on the server's side, too."""
        self._handler.cancel()

    def fail(self, outcome: grpc.aio.AioRpcError) -> None:
        """End, with whatever status; the first one counts."""
        if self._outcome is None:
            self._outcome = outcome
            self._replies.put_nowait(None)
            for callback in self._callbacks:
                callback(self)

    # ---- the agent's side: ``grpc.aio.StreamStreamCall``

    async def write(self, message: bytes) -> None:
        """Send; a connection that breaks here may still deliver what was under way, after a while."""
        if self._outcome is not None:
            raise asyncio.InvalidStateError
        if self._connection.loses_something():
            late_s = self._connection.place.dice.uniform(0, _GONE_AFTER_S - 1)
            asyncio.get_running_loop().call_later(late_s, self.requests.put_nowait, message)
            self._connection.lose()
            return
        self.requests.put_nowait(message)

    async def read(self) -> object:
        message = await self._replies.get()
        if message is not None:
            return message
        self._replies.put_nowait(None)
        assert self._outcome is not None
        if self._outcome.code() is grpc.StatusCode.OK:
            return grpc.aio.EOF
        raise self._outcome

    async def done_writing(self) -> None:
        self.requests.put_nowait(grpc.aio.EOF)

    def done(self) -> bool:
        return self._outcome is not None

    def cancel(self) -> None:
        self.fail(failure(grpc.StatusCode.CANCELLED, "cancelled here"))
        self._connection.calls.discard(self)
        if not self._connection.is_lost:
            self._handler.cancel()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    async def code(self) -> grpc.StatusCode:
        return self._ended.code()

    async def details(self) -> str | None:
        return self._ended.details()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return self._ended.initial_metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return self._ended.trailing_metadata()

    @property
    def _ended(self) -> grpc.aio.AioRpcError:
        assert self._outcome is not None
        return self._outcome


class Channel:
    """``grpc.aio.Channel``: dials when it is first used."""

    def __init__(self, network: Network, route: Route, identity: Identity | None, place: Place) -> None:
        self._network, self._route, self._identity, self._place = network, route, identity, place
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The connection; raises what gRPC raises when there can be none."""
        if self._connection is None or self._connection.is_lost:
            self._connection = self._network.dial(self._route, self._identity, self._place)
        return self._connection

    def unary_unary(
        self, path: str, request_serializer: Any, response_deserializer: Any
    ) -> Callable[..., Any]:
        async def call(request: Any, timeout: float) -> Any:  # noqa: ASYNC109 - gRPC's own signature
            try:
                async with asyncio.timeout(timeout):
                    raw = await self.connection.unary(path.rpartition("/")[2], request_serializer(request))
            except TimeoutError:
                raise failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
            return response_deserializer(raw)

        return call

    def stream_stream(
        self, path: str, request_serializer: Any, response_deserializer: Any
    ) -> Callable[..., Any]:
        assert path.endswith("/Heartbeat")

        def call() -> Any:
            try:
                return _TypedCall(self.connection.stream(), request_serializer, response_deserializer)
            except grpc.aio.AioRpcError as error:
                return _NeverConnected(error)

        return call

    def close(self) -> None:
        """Say goodbye."""
        if self._connection is not None and not self._connection.is_lost:
            self._connection.end()


class _TypedCall:
    """A stream that speaks messages."""

    def __init__(self, call: Call, serialize: Callable[[Any], bytes], parse: Callable[[bytes], Any]) -> None:
        self._call, self._serialize, self._parse = call, serialize, parse

    async def write(self, message: Any) -> None:
        await self._call.write(self._serialize(message))

    async def read(self) -> Any:
        found = await self._call.read()
        return self._parse(found) if isinstance(found, bytes) else found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class _NeverConnected:
    """The stream of a connection that never came to be."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self._error = error

    async def write(self, _message: Any) -> None:
        raise self._error

    async def read(self) -> Any:
        raise self._error

    def done(self) -> bool:
        return True

    def cancel(self) -> None:
        """There is nothing."""

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """It ended before it began; what it says is raised by the read."""


class SimulatedSession(GrpcSession):
    """The agent's own, but for its second look at the server's certificate."""

    def __init__(self, channel: Channel, route: Route, place: Place) -> None:
        super().__init__(channel, route, route.addresses[0], place.wall)  # type: ignore[arg-type]  # ours
        self._simulated = channel

    async def server_certificate(self) -> bytes:
        try:
            return self._simulated.connection.serving.parts.server_certificate
        except grpc.aio.AioRpcError as error:
            raise UnreachableError(error.details() or "unreachable") from error


class Connector:
    """The agent's ``Connect``."""

    def __init__(self, network: Network, place: Place) -> None:
        self._network, self._place = network, place

    @asynccontextmanager
    async def __call__(self, route: Route, identity: Identity | None) -> AsyncIterator[SimulatedSession]:
        channel = Channel(self._network, route, identity, self._place)
        try:
            yield SimulatedSession(channel, route, self._place)
        finally:
            channel.close()
