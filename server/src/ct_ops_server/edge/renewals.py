"""Renewal on a running heartbeat stream, and when an existing agent is sent to renew.

An agent of ours asks beside a frame and gets its new credentials in the reply: a token for the leaf it
has, or a new leaf and a token for that. A CSR for *another* key rotates the key, which must sign that it
wants to follow the leaf of this very connection.

An existing agent renews only when it reconnects with less than a third of its leaf's life left, and a
leaf that is pushed ends its process (rule 22). So its stream is ended once, after a reply, when that
third begins, or up to five days later: each agent has a moment of its own, so that a fleet that was installed in one
night does not go in one night. If it does not manage to renew, it is asked again a day later.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime, timedelta

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.key_proof import rotation_text_for
from ct_ops_server.authority.ca import LEAF_LIFETIME
from ct_ops_server.authority.csr import parse_csr
from ct_ops_server.authority.key_signature import signed_by
from ct_ops_server.authority.leaf_identity import SKEW_TOLERANCE, LeafOfAgent
from ct_ops_server.authority.public_key import KeyRefusedError, PublicKey
from ct_ops_server.edge import convert
from ct_ops_server.edge.refusals import refuse, refuse_key
from ct_ops_server.edge.registration_limits import RegistrationLimits
from ct_ops_server.enrolment.model import Renewal
from ct_ops_server.enrolment.ports import KeyAlreadyEnrolledError
from ct_ops_server.enrolment.service import Enrolment

FEATURE = "renewal"
"""What ``features`` calls it, in hello and in welcome."""

_log = logging.getLogger("ct_ops_server.agent_service")
_SEND_TO_RENEW_BELOW = LEAF_LIFETIME / 3
_SEND_AGAIN_AFTER = timedelta(days=1)
_SPREAD = timedelta(days=5)


class StreamRenewals:
    """The renewals of one stream: one new leaf at most, since the agent then reconnects with it."""

    def __init__(self, enrolment: Enrolment, leaf: LeafOfAgent, limits: RegistrationLimits) -> None:
        self._enrolment = enrolment
        self._limits = limits
        self._leaf = leaf
        self._has_new_leaf = False

    async def answer(self, request: wire.RenewalRequest) -> wire.RenewalResponse:
        """Renew what is asked for.

        Raises:
            Refused: the CSR or the proof is not acceptable, or the key is not the agent's any more.
            StoreError: the store did not answer; nothing was given out.
        """
        renewal = await self._renew(request)
        return convert.renewal_message(renewal, authority_pem=self._enrolment.authority_pem)

    async def _renew(self, request: wire.RenewalRequest) -> Renewal:
        leaf = self._leaf
        if not request.csr_der:
            return self._enrolment.renew_token(leaf.agent_id, leaf.sha256)
        if self._has_new_leaf:
            raise refuse("one_leaf_a_stream")
        key = _key_of(request.csr_der)
        self._limits.count_leaf(leaf.agent_id)
        if key.key_id == leaf.key_id:
            renewal = await self._enrolment.renew_leaf(leaf.agent_id, key)
        else:
            renewal = await self._rotate(request, key)
        self._has_new_leaf = True
        _log.info("agent %s renewed its leaf until %s", leaf.agent_id, renewal.leaf_not_after)
        return renewal

    async def _rotate(self, request: wire.RenewalRequest, key: PublicKey) -> Renewal:
        leaf = self._leaf
        text = rotation_text_for(leaf_sha256=leaf.sha256, csr_der=request.csr_der)
        if request.proof.nonce != leaf.sha256 or not signed_by(key, request.proof.signature, text):
            raise refuse("rotation_unproven")
        try:
            renewal = await self._enrolment.replace_key(leaf.agent_id, leaf.key_id, key)
        except KeyAlreadyEnrolledError:
            raise refuse("rotation_key_taken") from None
        if renewal is None:
            raise refuse("key_replaced")
        _log.info("agent %s has a new key: %s", leaf.agent_id, key.key_id)
        return renewal


def is_sent_to_renew(
    leaf_not_after: datetime, *, opened_at: datetime, now: datetime, share: float = 0.0
) -> bool:
    """Return whether an existing agent's stream ends now so that the agent renews.

    Args:
        leaf_not_after: the end of the leaf it presented.
        opened_at: when the stream opened: an agent that came with less than a third has just tried.
        now: the moment of the decision.
        share: 0 to 1, the same for an agent for ever (``share_of``).
    """
    due_at = leaf_not_after - _SEND_TO_RENEW_BELOW + share * _SPREAD
    return now >= due_at and (opened_at < due_at or now - opened_at >= _SEND_AGAIN_AFTER)


def share_of(agent_id: str) -> float:
    """Return an agent's own place between 0 and 1."""
    return int.from_bytes(hashlib.sha256(agent_id.encode()).digest()[:4]) / 2**32


def has_expired(leaf_not_after: datetime, now: datetime) -> bool:
    """Return whether a leaf that was valid at the handshake is so no more."""
    return now > leaf_not_after + SKEW_TOLERANCE


def _key_of(csr_der: bytes) -> PublicKey:
    try:
        return parse_csr(csr_der).public_key
    except KeyRefusedError as refusal:
        raise refuse_key(refusal) from refusal
