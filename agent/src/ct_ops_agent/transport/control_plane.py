"""The server over gRPC: sessions, Register, and the heartbeat stream.

Fulfils the protocols of `ct_ops_agent.control_plane`. Every gRPC failure leaves this module as one of
the agent's own errors: what the server said goes through the tables of `refusals`, what the
connection itself said becomes a sentence here.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import grpc

from ct_ops_agent.batches import Batch
from ct_ops_agent.control_plane import (
    DEFINITIONS,
    Challenge,
    Departure,
    HeartbeatFrame,
    HeartbeatReply,
    Registration,
    RegistrationReply,
    Renewed,
    Route,
)
from ct_ops_agent.errors import AgentError, Refusal, UnreachableError
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.refusals import refused_registration, refused_stream
from ct_ops_agent.transport.channel import open_channel
from ct_ops_agent.transport.convert import (
    from_heartbeat_response,
    from_register_response,
    from_renew_response,
    to_deregister_request,
    to_heartbeat_request,
    to_refusal,
    to_register_request,
)
from ct_ops_agent.transport.convert_delivery import to_batch_request
from ct_ops_agent.transport.final_status import FinalStatus
from ct_ops_agent.transport.texts import printable
from ct_ops_agent.vitals import read_interfaces
from ct_ops_agent.work import InventoryChunk
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

REGISTER_DEADLINE_S = 90.0
"""A server answers a refused Register late, up to 60 s, to slow down guessing."""

CHALLENGE_DEADLINE_S = 15.0
_FAREWELL_S = 1.0
_MOST_WAITING_REPLIES = 64
_SERVICE = "/agent.v1.IngestService/"

# What gRPC says when the connection is cut while TLS is set up. A server that dislikes our leaf does
# that: in TLS 1.3 its refusal comes after our side of the handshake is done.
_HANG_UPS = ("Connection reset by peer", "Socket closed", "Handshake read failed", "Broken pipe")
_UNTRUSTED = "its certificate is not signed by an authority this agent trusts (ingest.ca_cert_file)"
_CUT = "it cut the connection"
_BY_THIS_CLOCK = (
    "this host's clock says {now}: if that is wrong, set it, best by NTP; else renew it on the server"
)
_PLAIN_WORDS = (
    ("certificate has expired", f"its certificate has expired; {_BY_THIS_CLOCK}"),
    ("certificate is not yet valid", f"its certificate is not valid yet; {_BY_THIS_CLOCK}"),
    ("CERTIFICATE_VERIFY_FAILED", _UNTRUSTED),
    ("certificate signature failure", _UNTRUSTED),  # an authority of the same name with another key
    (
        "Hostname Verification Check failed",
        "its certificate is not valid for this name; use a name that is in it",
    ),
    (
        "Failed to create security handshaker",
        "the trust bundle, or certificate and key of this agent, cannot be used",
    ),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS on this port"),
    ("Domain name not found", "this name does not exist in DNS"),
    ("Connection refused", "nothing listens there (connection refused)"),
    ("No route to host", "no route to that host"),
    ("Network is unreachable", "the network is unreachable"),
    ("Connection reset by peer", _CUT),
    ("Socket closed", _CUT),
    ("Timeout", "it does not answer"),
    ("Deadline Exceeded", "it does not answer"),
)


class GrpcConnector:
    """Opens sessions; after a failure it goes on to the route's next address."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        """Prepare; ``wall`` is this host's clock, in seconds since 1970."""
        self._wall = wall
        self._failures = 0

    @asynccontextmanager
    async def __call__(self, route: Route, identity: Identity | None) -> AsyncIterator["GrpcSession"]:
        """Open a session to one of the route's addresses."""
        address = route.addresses[self._failures % len(route.addresses)]
        async with open_channel(route, address, identity) as channel:
            try:
                yield GrpcSession(channel, route, address, self._wall)
            except UnreachableError:
                self._failures += 1
                raise


class GrpcSession:
    """A connection to one address as one identity."""

    def __init__(
        self, channel: grpc.aio.Channel, route: Route, address: str, wall: Callable[[], float]
    ) -> None:
        self._channel = channel
        self._route = route
        self._address = address
        self._wall = wall

    async def challenge(self, public_key_pem: str) -> Challenge | None:
        """Ask for a nonce to sign; ``None`` from a server that knows no challenges.

        Raises:
            EnrolmentRefusedError: the server does not accept this key.
            UnreachableError: it did not answer, or asked to come later.
        """
        call = self._channel.unary_unary(
            _SERVICE + "RegisterChallenge",
            request_serializer=pb.RegisterChallengeRequest.SerializeToString,
            response_deserializer=pb.RegisterChallengeResponse.FromString,
        )
        try:
            message = await call(
                pb.RegisterChallengeRequest(public_key=public_key_pem), timeout=CHALLENGE_DEADLINE_S
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise translate(error, self._address, refused_registration, self._wall()) from error
        if message is None:
            raise _unreadable(self._address)
        return Challenge(message.nonce, message.server_certificate_sha256)

    async def server_certificate(self) -> bytes:
        """Return the certificate (DER) that the server shows on another connection, verified like this one's.

        Raises:
            UnreachableError: no answer, or a certificate that this route does not believe.
        """
        from ct_ops_agent.transport.verified_look import look_at_server  # noqa: PLC0415 - rarely needed

        return await look_at_server(self._route, self._address)

    async def register(self, registration: Registration) -> RegistrationReply:
        """Ask to be admitted.

        Raises:
            EnrolmentRefusedError: the server said no.
            UnreachableError: it did not answer, or asked to come later.
        """
        call = self._channel.unary_unary(
            _SERVICE + "Register",
            request_serializer=pb.RegisterRequest.SerializeToString,
            response_deserializer=pb.RegisterResponse.FromString,
        )
        request = to_register_request(registration, read_interfaces())
        try:
            message = await call(request, timeout=REGISTER_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise translate(error, self._address, refused_registration, self._wall()) from error
        if message is None:
            raise _unreadable(self._address)
        return from_register_response(message)

    async def deregister(self, departure: Departure) -> str:
        """Say that this agent leaves; return the status, empty from a server that cannot be told.

        Raises:
            EnrolmentRefusedError: the server said no.
            UnreachableError: it did not answer, or asked to come later.
        """
        call = self._channel.unary_unary(
            _SERVICE + "Deregister",
            request_serializer=pb.DeregisterRequest.SerializeToString,
            response_deserializer=pb.DeregisterResponse.FromString,
        )
        try:
            message = await call(to_deregister_request(departure), timeout=CHALLENGE_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return ""
            raise translate(error, self._address, refused_registration, self._wall()) from error
        if message is None:
            raise _unreadable(self._address)
        return printable(message.status)

    async def renew_certificate(self, agent_id: str, csr_der: bytes) -> Renewed:
        """Ask for a new leaf by the call that existing servers know.

        Raises:
            CredentialRejectedError, EnrolmentRefusedError: the server said no.
            UnreachableError: it did not answer.
        """
        call = self._channel.unary_unary(
            _SERVICE + "RenewCertificate",
            request_serializer=pb.RenewCertificateRequest.SerializeToString,
            response_deserializer=pb.RenewCertificateResponse.FromString,
        )
        request = pb.RenewCertificateRequest(agent_id=agent_id, csr_der=csr_der)
        try:
            message = await call(request, timeout=CHALLENGE_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise translate(error, self._address, refused_stream, self._wall()) from error
        if message is None:
            raise _unreadable(self._address)
        return from_renew_response(message)

    async def upload_inventory(self, identity: Identity, chunks: Iterable[InventoryChunk]) -> int:
        """Upload a software scan; return how many packages the server has stored.

        Raises:
            CredentialRejectedError, EnrolmentRefusedError: the server said no.
            UnreachableError: it did not answer. In each case nothing has changed there.
        """
        from ct_ops_agent.transport.inventory import upload  # noqa: PLC0415 - rarely needed

        method = _SERVICE + "SubmitSoftwareInventory"
        try:
            received = await upload(self._channel, method, identity, chunks)
        except grpc.aio.AioRpcError as error:
            raise translate(error, self._address, refused_stream, self._wall()) from error
        if received is None:
            raise _unreadable(self._address)
        return received

    def open_heartbeat(self) -> "GrpcHeartbeatStream":
        """Start a heartbeat stream."""
        method = self._channel.stream_stream(
            _SERVICE + "Heartbeat",
            request_serializer=pb.HeartbeatRequest.SerializeToString,
            response_deserializer=pb.HeartbeatResponse.FromString,
        )
        return GrpcHeartbeatStream(method(), self._address, self._wall)


class GrpcHeartbeatStream:
    """A heartbeat stream. One task reads, because a cancelled read would cancel the whole call."""

    def __init__(self, call: Any, address: str, wall: Callable[[], float]) -> None:
        self._call = call
        self._final_status = FinalStatus(call)
        self._address = address
        self._wall = wall
        self._turn = asyncio.Lock()
        self._replies: asyncio.Queue[HeartbeatReply | AgentError] = asyncio.Queue(_MOST_WAITING_REPLIES)
        self._reader = asyncio.create_task(self._read(), name="heartbeat replies")

    async def send(self, frame: HeartbeatFrame) -> None:
        """Hand a frame to the network. A stream that has ended says so in :meth:`receive`."""
        await self._write(to_heartbeat_request(frame))

    async def send_batch(self, agent_id: str, batch: Batch) -> None:
        """Hand a batch to the network, as :meth:`send` does a frame."""
        await self._write(to_batch_request(agent_id, batch))

    async def receive(self) -> HeartbeatReply:
        """Wait for the next frame of the server.

        Raises:
            UnreachableError, CredentialRejectedError, EnrolmentRefusedError: the stream has ended.
        """
        reply = await self._replies.get()
        if isinstance(reply, AgentError):
            raise reply
        return reply

    async def finish(self) -> None:
        """Say goodbye, wait a moment for the server's, then drop the call."""
        if not self._call.done():
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await self._call.done_writing()
                    await asyncio.wait({self._reader})
        self._reader.cancel()
        self._call.cancel()
        await asyncio.wait({self._reader})

    async def _write(self, message: pb.HeartbeatRequest) -> None:
        # The reader holds the reason why the call ended; writing only knows that it did.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._turn:  # gRPC takes one write at a time
                await self._call.write(message)

    async def _read(self) -> None:
        outcome: AgentError
        knows_definitions = False
        try:
            while message := await self._call.read():
                knows_definitions |= DEFINITIONS in message.welcome.features
                await self._replies.put(from_heartbeat_response(message, knows_definitions=knows_definitions))
            ended = message is grpc.aio.EOF
            outcome = self._orderly_end() if ended else _unreadable(self._address)
        except grpc.aio.AioRpcError as error:
            said = await self._final_status.instead_of(error)
            orderly = said.code() is grpc.StatusCode.OK
            outcome = (
                self._orderly_end()
                if orderly
                else translate(said, self._address, refused_stream, self._wall())
            )
        await self._replies.put(outcome)

    def _orderly_end(self) -> AgentError:
        return UnreachableError(f"{self._address} ended the stream")


def translate(
    error: grpc.aio.AioRpcError, address: str, decide: Callable[[Refusal], AgentError], now_unix: float
) -> AgentError:
    """Return the agent's own error for a gRPC one.

    Args:
        error: as gRPC raised it.
        address: whom it came from.
        decide: the table that knows what a refusal of this call means.
        now_unix: this host's clock.
    """
    metadata = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
    refusal = to_refusal(error.code().name, error.details(), metadata, now_unix=now_unix)
    if refusal.reason or error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return decide(refusal)
    hung_up = any(sign in refusal.detail for sign in _HANG_UPS)
    return UnreachableError(
        f"cannot reach {address}: {_in_plain_words(refusal.detail, now_unix)}",
        retry_after=refusal.retry_after,
        cut_off_in_handshake=hung_up,
    )


def _unreadable(address: str) -> UnreachableError:
    # gRPC hands over None for bytes that are not the message they should be.
    return UnreachableError(f"{address} sent something that is no answer; is it a CT-Ops server?")


def _in_plain_words(detail: str, now_unix: float) -> str:
    for sign, words in _PLAIN_WORDS:
        if sign in detail:
            return words.format(now=datetime.fromtimestamp(now_unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    return detail
