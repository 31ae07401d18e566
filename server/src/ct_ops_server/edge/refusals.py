"""What a refusal looks like on the wire: a status, a sentence, and trailing metadata.

The status is chosen by what it does to an *existing* agent (rule 10): NOT_FOUND, PERMISSION_DENIED and
UNAUTHENTICATED make it wipe its state and register again, so they are used only after a positive,
current read of the store. Everything else makes it reconnect later. ``ct-ops-reason`` carries the exact
reason for agents that can read it.

    refusal                        an existing agent …
    UNAUTHENTICATED                … registers again, which is the way back in
    PERMISSION_DENIED  pending     … registers again, which is how it polls
    NOT_FOUND          unknown     … registers again
    FAILED_PRECONDITION  revoked   … stays quiet and backs off to a minute
    UNAVAILABLE        our fault   … reconnects
"""

from __future__ import annotations

import grpc

from ct_ops_server.authority.public_key import KeyRefusedError
from ct_ops_server.enrolment.model import EnrolmentRefusedError, Refusal

REASON_KEY = "ct-ops-reason"
RETRY_AFTER_KEY = "ct-ops-retry-after-ms"
WITHIN_KEY = "ct-ops-reconnect-within-ms"
"""The agent shall come back at a moment of its own choice until then."""

STOPPING = "server_stopping"


class Refused(Exception):  # noqa: N818  it is an answer, not an error of ours
    """Ends an RPC. ``sentence`` is for the operator of the host and carries no secret."""

    def __init__(
        self, reason: str, sentence: str, code: grpc.StatusCode, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence
        self.code = code
        self.retry_after_ms = retry_after_ms

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the trailing metadata."""
        if self.retry_after_ms is None:
            return ((REASON_KEY, self.reason),)
        return ((REASON_KEY, self.reason), (RETRY_AFTER_KEY, str(self.retry_after_ms)))


_TABLE: dict[str, tuple[grpc.StatusCode, str]] = {
    # -- who is calling
    "client_certificate_required": (
        grpc.StatusCode.UNAUTHENTICATED,
        "client certificate required for this RPC",
    ),
    "leaf_unusable": (
        grpc.StatusCode.UNAUTHENTICATED,
        "the client certificate cannot be read or has a key of another kind than Ed25519 and P-256",
    ),
    "leaf_expired": (
        grpc.StatusCode.UNAUTHENTICATED,
        "the agent's certificate has expired; register again, its key is proof enough",
    ),
    # Of a time when this server's clock was years ahead: an existing agent would keep it until then.
    "leaf_not_yet_valid": (
        grpc.StatusCode.UNAUTHENTICATED,
        "the agent's certificate is not valid yet by this server's clock; register again, its key is proof enough",
    ),
    "authority_retired": (
        grpc.StatusCode.UNAUTHENTICATED,
        "the agent's certificate was issued by a retired authority; register again for a new one",
    ),
    "authority_expired": (
        grpc.StatusCode.UNAUTHENTICATED,
        "the authority that issued the agent's certificate has expired; register again for a new one",
    ),
    "foreign_installation": (
        grpc.StatusCode.UNAUTHENTICATED,
        "the agent's certificate names another CT-Ops installation; register here with an enrolment token",
    ),
    "leaf_unknown_authority": (
        grpc.StatusCode.UNAVAILABLE,
        "the agent's certificate was issued by an authority this server does not know; only Register is open",
    ),
    "connection_unknown": (
        grpc.StatusCode.UNAVAILABLE,
        "this connection is closing; connect again",
    ),
    "reconnect": (grpc.StatusCode.UNAVAILABLE, "the server asks this agent to reconnect"),
    "renew_leaf": (
        grpc.StatusCode.UNAVAILABLE,
        "less than a third of the certificate's life is left; reconnect and renew it",
    ),
    STOPPING: (grpc.StatusCode.UNAVAILABLE, "the server is stopping; reconnect"),
    # -- agent token
    "agent_token_missing": (
        grpc.StatusCode.UNAUTHENTICATED,
        "the first heartbeat frame must carry the agent token; register again for one",
    ),
    "agent_token_invalid": (
        grpc.StatusCode.UNAUTHENTICATED,
        "the agent token is not one of this server; register again for a new one",
    ),
    "agent_token_expired": (
        grpc.StatusCode.UNAUTHENTICATED,
        "the agent token has expired; register again for a new one",
    ),
    "agent_token_of_another_agent": (
        grpc.StatusCode.UNAUTHENTICATED,
        "the agent token belongs to another agent than the certificate",
    ),
    # -- the agent's row
    "unknown_agent": (
        grpc.StatusCode.NOT_FOUND,
        "this agent is not known here; register with an enrolment token",
    ),
    "pending": (grpc.StatusCode.PERMISSION_DENIED, "this agent waits for an operator's approval"),
    "revoked": (
        grpc.StatusCode.FAILED_PRECONDITION,
        "this agent was revoked by an operator; it will not be served again",
    ),
    "quarantined": (
        # Looks like "pending" would, had that a status over which existing agents keep what they have.
        grpc.StatusCode.FAILED_PRECONDITION,
        "two hosts speak as this agent; an operator has to decide: ct-ops-server clones list",
    ),
    "split_off": (
        grpc.StatusCode.FAILED_PRECONDITION,
        "this host is a copy of another one, which kept the agent: delete this agent's data directory",
    ),
    "key_replaced": (
        grpc.StatusCode.FAILED_PRECONDITION,
        "this agent has another key by now; if this host is a copy, remove its data directory",
    ),
    "take_overs": (
        grpc.StatusCode.UNAVAILABLE,
        "too many streams of this agent open at once; is it running on several hosts?",
    ),
    "superseded": (grpc.StatusCode.ABORTED, "another stream of this agent has taken over"),
    # -- form
    "message_too_large": (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "the message is larger than this server accepts",
    ),
    "first_frame_missing": (grpc.StatusCode.INVALID_ARGUMENT, "no heartbeat frame came in time"),
    "silent": (grpc.StatusCode.UNAVAILABLE, "no heartbeat frame came for three intervals; reconnect"),
    "stalled": (grpc.StatusCode.UNAVAILABLE, "this agent does not read what it is sent; reconnect"),
    "message_malformed": (grpc.StatusCode.INVALID_ARGUMENT, "the message is no valid agent.v1 message"),
    "proof_stale": (
        grpc.StatusCode.UNAVAILABLE,
        "the challenge that the key signed was used already or is too old; ask for another",
    ),
    "too_many_challenges": (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "too many challenges are open; try again in a minute",
    ),
    "registrations_of_address": (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "this address has registered as often as it may in a minute; try again later",
    ),
    "registrations_of_token": (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "this enrolment token was used as often as it may be in a minute; try again later",
    ),
    "renewal_key": (
        grpc.StatusCode.INVALID_ARGUMENT,
        "a renewal keeps the key: the CSR's key is not that of the presented certificate",
    ),
    "one_leaf_a_stream": (
        grpc.StatusCode.INVALID_ARGUMENT,
        "this stream has renewed its certificate already; reconnect with it",
    ),
    "leaves_of_agent": (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "this agent got as many certificates as it may in a minute; try again later",
    ),
    "rotation_unproven": (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the new key did not sign that it follows the key of this connection",
    ),
    "rotation_key_taken": (
        grpc.StatusCode.ALREADY_EXISTS,
        "the new key belongs, or belonged, to another agent; make another one",
    ),
    "agent_id_mismatch": (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the message names another agent than the certificate",
    ),
    "not_your_agent": (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the key is not that of the agent that is to be deregistered",
    ),
    "hostname_missing": (grpc.StatusCode.INVALID_ARGUMENT, "the agent sent no hostname"),
    # -- a software scan: nothing here may make an existing agent forget who it is
    "upload_token": (
        grpc.StatusCode.FAILED_PRECONDITION,
        "the upload must carry the agent token of this agent as `authorization: Bearer …`",
    ),
    "scan_not_yours": (
        grpc.StatusCode.FAILED_PRECONDITION,
        "the scan is no software_inventory task of this agent",
    ),
    "scan_not_wanted": (
        grpc.StatusCode.FAILED_PRECONDITION,
        "the task takes no upload: it is over, or this attempt was never pushed",
    ),
    "scan_mixed": (grpc.StatusCode.INVALID_ARGUMENT, "the chunks of one upload belong to one scan"),
    "scan_order": (grpc.StatusCode.INVALID_ARGUMENT, "the chunks of a scan come in order, from the first"),
    "scan_incomplete": (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the upload ended before its last chunk: nothing was changed",
    ),
    "scan_empty": (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the scan found no package at all: nothing was changed",
    ),
    "scan_too_large": (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "the scan has more packages than this server keeps of one host: nothing was changed",
    ),
    "upload_running": (grpc.StatusCode.UNAVAILABLE, "another upload of this agent is going on"),
    "uploads_busy": (grpc.StatusCode.UNAVAILABLE, "too many scans are being uploaded; try again"),
    "upload_stalled": (grpc.StatusCode.UNAVAILABLE, "the next chunk did not come in time"),
    # -- ours
    "store_unavailable": (
        grpc.StatusCode.UNAVAILABLE,
        "the server cannot reach its database; nothing is lost, try again",
    ),
    "authority_unavailable": (
        grpc.StatusCode.UNAVAILABLE,
        "the server's authority cannot sign now; the server's log says why",
    ),
    "write_refused": (
        grpc.StatusCode.INTERNAL,
        "the server could not store this message; its log says why",
    ),
    "not_built": (grpc.StatusCode.UNIMPLEMENTED, "this server does not offer this RPC"),
}

_APPROVAL_RETRY_MS = 60_000

_ENROLMENT = {
    Refusal.TOKEN_MISSING: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.TOKEN_UNKNOWN: grpc.StatusCode.UNAUTHENTICATED,
    Refusal.TOKEN_EXPIRED: grpc.StatusCode.UNAUTHENTICATED,
    Refusal.TOKEN_EXHAUSTED: grpc.StatusCode.UNAUTHENTICATED,
    Refusal.TOKEN_REVOKED: grpc.StatusCode.UNAUTHENTICATED,
    Refusal.TOKEN_NETWORK: grpc.StatusCode.UNAUTHENTICATED,
    Refusal.TOKEN_HOSTNAME: grpc.StatusCode.UNAUTHENTICATED,
    Refusal.TOO_MANY_PENDING: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Refusal.PROOF_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.HOST_ALREADY_ENROLLED: grpc.StatusCode.ALREADY_EXISTS,
    Refusal.REVOKED: grpc.StatusCode.FAILED_PRECONDITION,
    # Only what is carried here can be refused for these; nobody hears of them on the wire.
    Refusal.REQUEST_ALTERED: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.REQUEST_TOO_OLD: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.REQUEST_FROM_THE_FUTURE: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.REQUEST_REPLAYED: grpc.StatusCode.INVALID_ARGUMENT,
}


def refuse(reason: str, sentence: str | None = None, *, retry_after_ms: int | None = None) -> Refused:
    """Return the refusal for a reason; ``sentence`` replaces the usual one where more is known."""
    code, usual = _TABLE[reason]
    return Refused(reason, sentence or usual, code, retry_after_ms)


def refuse_enrolment(error: EnrolmentRefusedError) -> Refused:
    """Return the refusal of a Register; its sentences are enrolment's."""
    waits_for_operator = error.reason is Refusal.TOO_MANY_PENDING
    return Refused(
        error.reason.value,
        str(error),
        _ENROLMENT[error.reason],
        _APPROVAL_RETRY_MS if waits_for_operator else None,
    )


def refuse_key(error: KeyRefusedError) -> Refused:
    """Return the refusal of a key or CSR; its sentences are the authority's."""
    return Refused(error.reason.value, str(error), grpc.StatusCode.INVALID_ARGUMENT)
