"""The unary RPCs about identity: RegisterChallenge, Register, RenewCertificate.

The first two are all that a caller without a valid leaf can reach. A refused Register is answered late,
because an existing agent asks again every five seconds for ever (rule 10); and it is recorded, once it is
known whose key it is.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.authority.csr import parse_csr
from ct_ops_server.authority.leaf_identity import LeafOfAgent
from ct_ops_server.authority.public_key import KeyRefusedError, PublicKey, parse_public_key, parse_spki
from ct_ops_server.edge import convert
from ct_ops_server.edge.callers import Caller
from ct_ops_server.edge.identities import proven_key, proves_register
from ct_ops_server.edge.refusals import Refused, refuse, refuse_key
from ct_ops_server.edge.request_ids import refused_fields
from ct_ops_server.edge.rpc import RpcGround, as_refused
from ct_ops_server.enrolment.challenges import TooManyChallengesError
from ct_ops_server.enrolment.model import Application, EnrolmentRefusedError

if TYPE_CHECKING:
    from ct_ops_server.edge.rpc import Context

_log = logging.getLogger("ct_ops_server.agent_service")


class RegistrationRpcs:
    """Handlers; bytes in, bytes out."""

    def __init__(self, ground: RpcGround) -> None:
        self._ground = ground
        self._parts = ground.parts
        self._limits = ground.parts.registration_limits

    async def challenge(self, raw: bytes, context: Context) -> bytes:
        """Give out a nonce for a key to sign."""
        async with self._ground.ended("RegisterChallenge", context):
            message = self._ground.parse(raw, wire.RegisterChallengeRequest)
            challenges = self._parts.challenges
            try:
                nonce = challenges.issue(parse_public_key(message.public_key).key_id)
            except KeyRefusedError as refusal:
                raise refuse_key(refusal) from refusal
            except TooManyChallengesError:
                raise refuse("too_many_challenges") from None
            lifetime_ms = int(challenges.lifetime.total_seconds() * 1000)
            return wire.RegisterChallengeResponse(
                nonce=nonce,
                expires_in_ms=lifetime_ms,
                server_certificate_sha256=hashlib.sha256(self._parts.server_certificate).digest(),
            ).SerializeToString()

    async def register(self, raw: bytes, context: Context) -> bytes:
        """Decide about an application."""
        async with self._ground.ended("Register", context) as caller:
            application = None
            try:
                message = self._ground.parse(raw, wire.RegisterRequest)
                application = self._application(message, caller)
                self._limits.count(caller.address, application.token)
                application = self._with_challenge(application, message)
                registration = await self._parts.enrolment.register(application)
            except (Refused, EnrolmentRefusedError, KeyRefusedError) as refusal:
                raise await self._refused(refusal, application, caller) from refusal
            self._parts.metrics.registrations.labels(status=registration.status.value).inc()
            _log.info(
                "Register from %s: %s is %s (%s)",
                caller.address,
                application.hostname,
                registration.agent_id,
                registration.status,
            )
            return convert.registration_message(registration, self._parts.now()).SerializeToString()

    async def renew(self, raw: bytes, context: Context) -> bytes:
        """Issue a new leaf for the key of a valid one."""
        async with self._ground.ended("RenewCertificate", context) as caller:
            message = self._ground.parse(raw, wire.RenewCertificateRequest)
            leaf = await self._ground.verified_leaf(caller)
            try:
                key = parse_csr(message.csr_der).public_key
            except KeyRefusedError as refusal:
                raise refuse_key(refusal) from refusal
            if key.key_id != leaf.key_id:
                raise refuse("renewal_key")
            self._limits.count_leaf(leaf.agent_id)
            issued = await self._parts.enrolment.renew(leaf.agent_id, key.key_id)
            if issued is None:
                raise refuse(await self._parts.sessions.why_not_served(leaf.agent_id))
            _log.info("agent %s renewed its leaf until %s", leaf.agent_id, issued.not_after.isoformat())
            return wire.RenewCertificateResponse(
                client_cert_pem=issued.pem,
                client_cert_not_after_unix=int(issued.not_after.timestamp()),
                agent_ca_cert_pem=self._parts.enrolment.authority_pem,
            ).SerializeToString()

    async def _refused(self, error: Exception, application: Application | None, caller: Caller) -> Refused:
        """Log the refusal, have it recorded, and return it when it is time to answer."""
        answer = as_refused(error)
        _log.info(
            "Register from %s refused: %s",
            caller.address,
            answer.sentence,
            extra=refused_fields("Register", answer.reason),
        )
        if application is not None and isinstance(error, EnrolmentRefusedError):
            self._parts.refusal_log.note(error.reason, application, error.token_id)
        with caller.resting():
            await self._parts.held.hold(caller.address if application is None else application.key_id)
        return answer

    def _application(self, message: wire.RegisterRequest, caller: Caller) -> Application:
        def leaf_agent_id(key: PublicKey) -> str | None:
            leaf = caller.identity
            return leaf.agent_id if isinstance(leaf, LeafOfAgent) and leaf.key_id == key.key_id else None

        return convert.application_of(
            message,
            address=caller.address,
            is_proven=lambda key: proven_key(caller) == key.key_id,
            leaf_agent_id=leaf_agent_id,
            presented_key_id=proven_key(caller) or "",
        )

    def _with_challenge(self, application: Application, message: wire.RegisterRequest) -> Application:
        """Return the application as proven when the handshake, or a signed challenge, proved its key."""
        if application.key_is_proven or not message.HasField("proof"):
            return application
        key = parse_spki(application.public_key_der)
        return replace(application, key_is_proven=proves_register(message, key, self._parts))
