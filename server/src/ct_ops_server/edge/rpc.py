"""What every RPC shares: who calls, how a message is read, and how a refusal leaves.

Handlers get raw bytes, because gRPC ends a stream like an orderly close when a message exceeds its own
limit: sizes are checked here, with a sentence, and gRPC's limit is a backstop. Every RPC starts from its
``Caller``, which the front door put into the live table; what a message says about the sender is a claim.

Every RPC runs under an id (``request_ids``), and every refusal leaves through ``ended``: status, sentence,
trailing metadata with that id, one log line with the same, one counter.
"""

from __future__ import annotations

import logging
import math
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.leaf_identity import LeafOfAgent
from ct_ops_server.authority.public_key import KeyRefusedError
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.web_certificate import WebCertificateFile
from ct_ops_server.edge import request_ids
from ct_ops_server.edge.budget import Budget
from ct_ops_server.edge.callers import Caller, Callers
from ct_ops_server.edge.held_refusals import HeldRefusals
from ct_ops_server.edge.identities import refusal_of_identity
from ct_ops_server.edge.limits import Limits
from ct_ops_server.edge.metrics import EdgeMetrics
from ct_ops_server.edge.refusals import (
    STOPPING,
    WITHIN_KEY,
    Refused,
    refuse,
    refuse_enrolment,
    refuse_key,
)
from ct_ops_server.edge.registration_limits import RegistrationLimits
from ct_ops_server.enrolment.challenges import Challenges
from ct_ops_server.enrolment.departure import Departures
from ct_ops_server.enrolment.model import EnrolmentRefusedError
from ct_ops_server.enrolment.refusal_log import RefusalLog
from ct_ops_server.enrolment.service import Enrolment
from ct_ops_server.fleet.anchor_log import AnchorLog
from ct_ops_server.fleet.delivery import DeliveryStore
from ct_ops_server.fleet.dispatch import Dispatch
from ct_ops_server.fleet.ports import StoreError, StoreUnavailableError
from ct_ops_server.fleet.sessions import SessionRefusedError, Sessions
from ct_ops_server.fleet.work_ports import InventoryStore

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[bytes, bytes]

_log = logging.getLogger("ct_ops_server.agent_service")
_OUTAGE_RETRY_MS = 1_000
"""An outage ends when it ends; the agent's own backoff goes on from there."""

_SERVER_TIME_KEY = "ct-ops-server-time-ms"
_STREAM = "Heartbeat"
_AnyMessage = TypeVar("_AnyMessage", bound=Message)


@dataclass(frozen=True)
class ServiceParts:
    """What the service is made of."""

    enrolment: Enrolment
    challenges: Challenges
    departures: Departures
    served_tls: ServedTls
    anchor_log: AnchorLog
    web_certificate: WebCertificateFile
    sessions: Sessions
    deliveries: DeliveryStore
    dispatch: Dispatch
    inventory: InventoryStore
    uploads: Budget
    callers: Callers
    held: HeldRefusals
    registration_limits: RegistrationLimits
    refusal_log: RefusalLog
    limits: Limits
    metrics: EdgeMetrics
    store_id: bytes
    now: Callable[[], datetime]

    @property
    def server_certificate(self) -> bytes:
        """DER of the certificate that this server shows."""
        return self.served_tls.current.certificate_der


class RpcGround:
    """What the handlers of one gRPC server stand on, with its size limit for messages."""

    def __init__(self, parts: ServiceParts, *, message_bytes: int) -> None:
        self.parts = parts
        self.message_bytes = message_bytes

    @asynccontextmanager
    async def ended(self, method: str, context: Context) -> AsyncIterator[Caller]:
        """Run an RPC's body as a caller's RPC; turn every way to refuse it into gRPC's."""
        caller = self.parts.callers.find(context.peer())
        with request_ids.request_id():
            try:
                if caller is None:
                    raise refuse("connection_unknown")
                with caller.rpc():
                    began_s = monotonic()
                    yield caller
                    if method != _STREAM:
                        self.parts.metrics.rpc_seconds.labels(method=method).observe(monotonic() - began_s)
            except CancelledError:
                reason = None if caller is None else caller.ended or caller.leaving
                if reason is None:
                    raise
                await self._abort(method, context, caller, refuse(reason))
            except (Refused, SessionRefusedError, StoreError) as refusal:
                await self._abort(method, context, caller, as_refused(refusal))
            except AuthorityError as error:
                _log.error("nothing can be signed: %s", error)
                await self._abort(method, context, caller, refuse("authority_unavailable"))

    def parse(self, raw: bytes, kind: Callable[[], _AnyMessage]) -> _AnyMessage:
        """Return the message in ``raw``.

        Raises:
            Refused: it is too large, or none.
        """
        if len(raw) > self.message_bytes:
            raise refuse(
                "message_too_large",
                f"the message has {len(raw)} bytes; this server accepts {self.message_bytes}",
            )
        message = kind()
        try:
            message.ParseFromString(raw)
        except DecodeError:
            raise refuse("message_malformed") from None
        return message

    async def verified_leaf(self, caller: Caller) -> LeafOfAgent:
        """Return the caller's valid leaf.

        Raises:
            Refused: it presented something else; says what.
            StoreError: the store did not answer.
        """
        if isinstance(caller.identity, LeafOfAgent):
            return caller.identity
        raise await refusal_of_identity(caller, self.parts.enrolment)

    async def _abort(self, method: str, context: Context, caller: Caller | None, refusal: Refused) -> None:
        self.parts.metrics.refusals.labels(method=method, reason=refusal.reason).inc()
        if method != "Register":
            who = "an unknown connection" if caller is None else caller.agent_id or caller.address
            fields = request_ids.refused_fields(method, refusal.reason)
            _log.info("%s of %s refused: %s", method, who, refusal.sentence, extra=fields)
        # The server's clock goes with every refusal: an agent whose own is wrong can find out.
        server_time = (_SERVER_TIME_KEY, str(int(self.parts.now().timestamp() * 1000)))
        number = (request_ids.METADATA_KEY, request_ids.current_request_id())
        await context.abort(
            refusal.code, refusal.sentence, (*refusal.metadata, server_time, number, *self._farewell(refusal))
        )

    def _farewell(self, refusal: Refused) -> tuple[tuple[str, str], ...]:
        """Return how long an agent that is sent elsewhere may take to get there."""
        if refusal.reason != STOPPING:
            return ()
        return ((WITHIN_KEY, str(math.ceil(self.parts.callers.reconnect_within_s * 1000))),)


def as_refused(error: Exception) -> Refused:
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
            return refuse("store_unavailable", retry_after_ms=_OUTAGE_RETRY_MS)
        case _:
            return refuse("write_refused")
