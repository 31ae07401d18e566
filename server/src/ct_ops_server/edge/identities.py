"""What a caller's identity is good for, beyond being a valid leaf.

``proven_key`` is the fresh proof of rule 12: a completed handshake proved the key of whatever leaf was
presented, whatever its dates and its authority's state.
"""

from __future__ import annotations

from ct_ops_server.authority.leaf_identity import Anonymous, AnonymousReason, KeyProven, LeafOfAgent
from ct_ops_server.edge.callers import Caller
from ct_ops_server.edge.refusals import Refused, refuse
from ct_ops_server.enrolment.service import Enrolment
from ct_ops_server.fleet.model import AgentStatus


def proven_key(caller: Caller) -> str | None:
    """Return the key id that the handshake proved; None when it proved none."""
    return None if isinstance(caller.identity, Anonymous) else caller.identity.key_id


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
