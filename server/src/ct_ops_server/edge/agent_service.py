"""``agent.v1.IngestService``: the same methods for the lobby and for agents.

Handlers get raw bytes, because gRPC ends a stream like an orderly close when a message exceeds its own
limit: sizes are checked here, with a sentence, and gRPC's limit is a backstop. Every RPC starts from its
``Caller``, which the front door put into the live table; what a message says about the sender is a claim.

Every refusal leaves through ``_ended``: status, sentence, trailing metadata, one log line, one counter.
A stream is refused only after its first frame was read: some clients see a bare end otherwise (rule 10).

Methods that are not built (RegisterChallenge, SubmitSoftwareInventory, Terminal) have no handler: gRPC
answers UNIMPLEMENTED.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.authority.csr import parse_csr
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.leaf_identity import LeafOfAgent
from ct_ops_server.authority.public_key import KeyRefusedError
from ct_ops_server.edge import convert
from ct_ops_server.edge.callers import Caller, Callers
from ct_ops_server.edge.held_refusals import HeldRefusals
from ct_ops_server.edge.identities import proven_key, refusal_of_identity
from ct_ops_server.edge.limits import Limits
from ct_ops_server.edge.metrics import EdgeMetrics
from ct_ops_server.edge.pace import FramePace, allowed_silence_s
from ct_ops_server.edge.refusals import Refused, refuse, refuse_enrolment, refuse_key
from ct_ops_server.enrolment.model import EnrolmentRefusedError
from ct_ops_server.enrolment.service import Enrolment
from ct_ops_server.fleet.ports import StoreError, StoreUnavailableError
from ct_ops_server.fleet.sessions import Session, SessionRefusedError, Sessions

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[bytes, bytes]

_log = logging.getLogger("ct_ops_server.agent_service")
_SERVICE = "agent.v1.IngestService"
_OK = wire.HeartbeatResponse(ok=True).SerializeToString()
_AnyMessage = TypeVar("_AnyMessage", bound=Message)


@dataclass(frozen=True)
class ServiceParts:
    """What the service is made of."""

    enrolment: Enrolment
    sessions: Sessions
    callers: Callers
    held: HeldRefusals
    limits: Limits
    metrics: EdgeMetrics
    store_id: bytes
    now: Callable[[], datetime]


class AgentService:
    """The RPCs, with one size limit for messages (lobby and agents have their own)."""

    def __init__(self, parts: ServiceParts, *, message_bytes: int) -> None:
        self._parts = parts
        self._message_bytes = message_bytes
        self._now_s = asyncio.get_running_loop().time

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server is given."""
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Register": grpc.unary_unary_rpc_method_handler(self._register),
            "RenewCertificate": grpc.unary_unary_rpc_method_handler(self._renew),
            "Heartbeat": grpc.stream_stream_rpc_method_handler(self._heartbeat),
        }
        return grpc.method_handlers_generic_handler(_SERVICE, methods)

    # ---- Register ------------------------------------------------------------------------------

    async def _register(self, raw: bytes, context: Context) -> bytes:
        async with self._ended("Register", context) as caller:
            held_as = caller.address
            try:
                message = self._parse(raw, wire.RegisterRequest)
                application = convert.application_of(
                    message, proven_key_id=proven_key(caller), address=caller.address
                )
                held_as = application.key_id
                registration = await self._parts.enrolment.register(application)
            except (Refused, EnrolmentRefusedError, KeyRefusedError) as refusal:
                answer = _refused(refusal)
                _log.info("Register from %s refused: %s", caller.address, answer.sentence)
                await self._parts.held.hold(held_as)
                raise answer from refusal
            self._parts.metrics.registrations.labels(status=registration.status.value).inc()
            _log.info(
                "Register from %s: %s is %s (%s)",
                caller.address,
                application.hostname,
                registration.agent_id,
                registration.status,
            )
            return convert.registration_message(registration).SerializeToString()

    # ---- RenewCertificate ----------------------------------------------------------------------

    async def _renew(self, raw: bytes, context: Context) -> bytes:
        async with self._ended("RenewCertificate", context) as caller:
            message = self._parse(raw, wire.RenewCertificateRequest)
            leaf = await self._verified_leaf(caller)
            try:
                key = parse_csr(message.csr_der).public_key
            except KeyRefusedError as refusal:
                raise refuse_key(refusal) from refusal
            if key.key_id != leaf.key_id:
                raise refuse("renewal_key")
            issued = await self._parts.enrolment.renew(leaf.agent_id, key.key_id)
            if issued is None:
                raise refuse(await self._parts.sessions.why_not_served(leaf.agent_id))
            _log.info("agent %s renewed its leaf until %s", leaf.agent_id, issued.not_after.isoformat())
            return wire.RenewCertificateResponse(
                client_cert_pem=issued.pem,
                client_cert_not_after_unix=int(issued.not_after.timestamp()),
                agent_ca_cert_pem=self._parts.enrolment.authority_pem,
            ).SerializeToString()

    # ---- Heartbeat -----------------------------------------------------------------------------

    async def _heartbeat(self, _requests: object, context: Context) -> None:
        async with self._ended("Heartbeat", context) as caller:
            first = await self._first_frame(context)
            if first is None:
                return
            leaf = await self._verified_leaf(caller)
            session = await self._parts.sessions.open(convert.greeting_of(leaf, first))
            _log.info("agent %s connected from %s", leaf.agent_id, caller.address)
            self._parts.metrics.streams.inc()
            try:
                await self._converse(caller, session, first, context)
            finally:
                self._parts.metrics.streams.dec()
                await _close(session, leaf.agent_id)

    async def _first_frame(self, context: Context) -> wire.HeartbeatRequest | None:
        try:
            async with asyncio.timeout(self._parts.limits.first_frame_s):
                raw = await _read(context)
        except TimeoutError:
            raise refuse("first_frame_missing") from None
        return None if raw is None else self._parse(raw, wire.HeartbeatRequest)

    async def _converse(
        self, caller: Caller, session: Session, first: wire.HeartbeatRequest, context: Context
    ) -> None:
        """Store and acknowledge frames until the agent half-closes."""
        limits = self._parts.limits
        pace = FramePace(per_second=limits.frames_per_second, burst=limits.frames_burst, now_s=self._now_s)
        await self._store(session, first)
        await context.write(self._first_reply(first))
        declared_s = float(first.hello.interval_s)
        gap_s, read_at_s = declared_s, self._now_s()
        while (raw := await self._next_frame(context, gap_s)) is not None:
            now_s = self._now_s()
            gap_s, read_at_s = declared_s or now_s - read_at_s, now_s
            frame = self._parse(raw, wire.HeartbeatRequest)
            if frame.agent_id and frame.agent_id not in {caller.agent_id, first.agent_id}:
                raise refuse("agent_id_mismatch")
            await self._store(session, frame)
            await context.write(_OK)
            if (wait_s := pace.take()) > 0:
                await asyncio.sleep(wait_s)

    async def _next_frame(self, context: Context, interval_s: float) -> bytes | None:
        """Return the next frame. A host that hangs keeps its connection open: silence ends the stream."""
        limits = self._parts.limits
        allowed_s = allowed_silence_s(
            interval_s=interval_s, floor_s=limits.silence_s, unknown_s=limits.silence_unknown_s
        )
        try:
            async with asyncio.timeout(allowed_s):
                return await _read(context)
        except TimeoutError:
            raise refuse("silent") from None

    async def _store(self, session: Session, message: wire.HeartbeatRequest) -> None:
        arrived_s = self._now_s()
        await session.record(convert.frame_of(message, self._parts.now()))
        self._parts.metrics.heartbeats.inc()
        self._parts.metrics.heartbeat_seconds.observe(self._now_s() - arrived_s)

    def _first_reply(self, first: wire.HeartbeatRequest) -> bytes:
        if not first.HasField("hello"):
            return _OK
        welcome = wire.Welcome(
            store_id=self._parts.store_id,
            server_time_ms=int(self._parts.now().timestamp() * 1000),
            max_batch_bytes=self._message_bytes,
        )
        return wire.HeartbeatResponse(ok=True, welcome=welcome).SerializeToString()

    # ---- what all of them share ------------------------------------------------------------------

    @asynccontextmanager
    async def _ended(self, method: str, context: Context) -> AsyncIterator[Caller]:
        """Run an RPC's body as a caller's RPC; turn every way to refuse it into gRPC's."""
        caller = self._parts.callers.find(context.peer())
        try:
            if caller is None:
                raise refuse("connection_unknown")
            with caller.rpc():
                yield caller
        except asyncio.CancelledError:
            if caller is None or caller.ended is None:
                raise
            await self._abort(method, context, caller, refuse(caller.ended))
        except (Refused, SessionRefusedError, StoreError) as refusal:
            await self._abort(method, context, caller, _refused(refusal))
        except AuthorityError as error:
            _log.error("nothing can be signed: %s", error)
            await self._abort(method, context, caller, refuse("authority_unavailable"))

    async def _abort(self, method: str, context: Context, caller: Caller | None, refusal: Refused) -> None:
        self._parts.metrics.refusals.labels(method=method, reason=refusal.reason).inc()
        if method != "Register":
            who = "an unknown connection" if caller is None else caller.agent_id or caller.address
            _log.info("%s of %s refused: %s", method, who, refusal.sentence)
        await context.abort(refusal.code, refusal.sentence, refusal.metadata)

    def _parse(self, raw: bytes, kind: Callable[[], _AnyMessage]) -> _AnyMessage:
        if len(raw) > self._message_bytes:
            raise refuse(
                "message_too_large",
                f"the message has {len(raw)} bytes; this server accepts {self._message_bytes}",
            )
        message = kind()
        try:
            message.ParseFromString(raw)
        except DecodeError:
            raise refuse("message_malformed") from None
        return message

    async def _verified_leaf(self, caller: Caller) -> LeafOfAgent:
        """Return the caller's valid leaf, or refuse it for what it presented instead."""
        if isinstance(caller.identity, LeafOfAgent):
            return caller.identity
        raise await refusal_of_identity(caller, self._parts.enrolment)


async def _read(context: Context) -> bytes | None:
    """Return the next message; None when the agent has half-closed."""
    raw: object = await context.read()
    return raw if isinstance(raw, bytes) else None


async def _close(session: Session, agent_id: str) -> None:
    try:
        await session.close()
    except StoreError as error:  # presence is put right by the sweep
        _log.warning("the end of agent %s's stream is not stored: %s", agent_id, error)
    else:
        _log.info("agent %s disconnected", agent_id)


def _refused(error: Exception) -> Refused:
    """Return the wire's form of whatever stopped an RPC."""
    match error:
        case Refused():
            return error
        case EnrolmentRefusedError():
            return refuse_enrolment(error)
        case KeyRefusedError():
            return refuse_key(error)
        case SessionRefusedError():
            return refuse(error.reason)
        case StoreUnavailableError():
            return refuse("store_unavailable")
        case _:
            return refuse("write_refused")
