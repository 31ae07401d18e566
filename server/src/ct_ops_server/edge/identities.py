"""What a caller's identity is good for, beyond being a valid leaf.

Two fresh proofs of a key (rule 12): ``proven_key``, because a completed handshake proved the key of
whatever leaf was presented, whatever its dates and its authority's state; and ``proves_register``, a
signature over a nonce of ours, this server's certificate and the CSR.
"""

from __future__ import annotations

from typing import Protocol

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.key_proof import deregistration_text, signed_text
from ct_ops_server.authority.key_signature import signed_by
from ct_ops_server.authority.leaf_identity import Anonymous, AnonymousReason, KeyProven, LeafOfAgent
from ct_ops_server.authority.public_key import PublicKey
from ct_ops_server.edge.callers import Caller
from ct_ops_server.edge.refusals import Refused, refuse
from ct_ops_server.enrolment.challenges import Challenges
from ct_ops_server.enrolment.model import Refusal
from ct_ops_server.enrolment.service import Enrolment, refusal
from ct_ops_server.fleet.model import AgentStatus


class Proving(Protocol):
    """What a signed challenge is judged by."""

    @property
    def challenges(self) -> Challenges:
        """The open challenges."""

    @property
    def server_certificate(self) -> bytes:
        """DER of the certificate that this server shows."""


def proven_key(caller: Caller) -> str | None:
    """Return the key id that the handshake proved; None when it proved none."""
    return None if isinstance(caller.identity, Anonymous) else caller.identity.key_id


def proves_register(message: wire.RegisterRequest, key: PublicKey, proving: Proving) -> bool:
    """Return whether the Register carries a signed challenge; one that is wrong is refused, not ignored.

    The signature names the server it was made for, so that a proof made for a rogue server that relays
    our nonce is worth nothing here.

    Raises:
        Refused: the nonce was used already, is too old, or another key's.
        EnrolmentRefusedError: the signature is not this key's, or was made for another server.
    """
    if not message.HasField("proof"):
        return False
    text = signed_text(
        nonce=message.proof.nonce,
        server_certificate_der=proving.server_certificate,
        csr_der=message.csr_der,
    )
    _must_be_signed(message.proof, text, key, proving)
    return True


def proves_departure(message: wire.DeregisterRequest, key: PublicKey, proving: Proving) -> None:
    """Refuse a Deregister that its key did not sign, now and for this server.

    Raises:
        Refused, EnrolmentRefusedError: as `proves_register`.
    """
    text = deregistration_text(
        nonce=message.proof.nonce,
        server_certificate_der=proving.server_certificate,
        agent_id=message.agent_id,
    )
    _must_be_signed(message.proof, text, key, proving)


def _must_be_signed(proof: wire.KeyProof, text: bytes, key: PublicKey, proving: Proving) -> None:
    if not proving.challenges.redeem(proof.nonce, key.key_id):
        raise refuse("proof_stale")
    if not signed_by(key, proof.signature, text):
        raise refusal(Refusal.PROOF_INVALID)


async def refusal_of_identity(caller: Caller, enrolment: Enrolment) -> Refused:
    """Return why a caller without a valid leaf gets no service.

    A revoked agent hears that it is revoked, also with an expired leaf; this takes a current read of the
    store, and when the store does not answer nobody is told to give up its identity (rule 10).

    Raises:
        StoreError: the store did not answer.
    """
    identity = caller.identity
    match identity:
        case KeyProven():
            status = await enrolment.status_of_key(identity.key_id)
            return refuse("revoked" if status is AgentStatus.REVOKED else identity.reason.value)
        case Anonymous(AnonymousReason.NO_LEAF) if caller.was_asked_for_leaf:
            return refuse("client_certificate_required")
        case Anonymous(AnonymousReason.NO_LEAF | AnonymousReason.UNKNOWN_AUTHORITY):
            return refuse("leaf_unknown_authority")
        case Anonymous():
            return refuse("leaf_unusable")
        case LeafOfAgent():
            raise AssertionError("a valid leaf is not refused for its identity")
