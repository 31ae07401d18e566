"""The unary RPCs about identity: RegisterChallenge, Register, RenewCertificate.

The first two are all that a caller without a valid leaf can reach. A refused Register is answered late,
because an existing agent asks again every five seconds for ever (rule 10).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.authority.csr import parse_csr
from ct_ops_server.authority.leaf_identity import LeafOfAgent
from ct_ops_server.authority.public_key import KeyRefusedError, PublicKey, parse_public_key
from ct_ops_server.edge import convert
from ct_ops_server.edge.callers import Caller
from ct_ops_server.edge.identities import proven_key, proves_register
from ct_ops_server.edge.refusals import Refused, refuse, refuse_key
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
            return wire.RegisterChallengeResponse(nonce=nonce, expires_in_ms=lifetime_ms).SerializeToString()

    async def register(self, raw: bytes, context: Context) -> bytes:
        """Decide about an application."""
        async with self._ground.ended("Register", context) as caller:
            held_as = caller.address
            try:
                application = self._application(self._ground.parse(raw, wire.RegisterRequest), caller)
                held_as = application.key_id
                registration = await self._parts.enrolment.register(application)
            except (Refused, EnrolmentRefusedError, KeyRefusedError) as refusal:
                answer = as_refused(refusal)
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
            issued = await self._parts.enrolment.renew(leaf.agent_id, key.key_id)
            if issued is None:
                raise refuse(await self._parts.sessions.why_not_served(leaf.agent_id))
            _log.info("agent %s renewed its leaf until %s", leaf.agent_id, issued.not_after.isoformat())
            return wire.RenewCertificateResponse(
                client_cert_pem=issued.pem,
                client_cert_not_after_unix=int(issued.not_after.timestamp()),
                agent_ca_cert_pem=self._parts.enrolment.authority_pem,
            ).SerializeToString()

    def _application(self, message: wire.RegisterRequest, caller: Caller) -> Application:
        def is_proven(key: PublicKey) -> bool:
            return proven_key(caller) == key.key_id or proves_register(message, key, self._parts)

        def leaf_agent_id(key: PublicKey) -> str | None:
            leaf = caller.identity
            return leaf.agent_id if isinstance(leaf, LeafOfAgent) and leaf.key_id == key.key_id else None

        return convert.application_of(
            message, address=caller.address, is_proven=is_proven, leaf_agent_id=leaf_agent_id
        )
