"""What a refusal means: which reaction, and which sentence for the operator.

Pure tables. Our servers name the reason (trailing metadata ``ct-ops-reason``); existing servers
send a gRPC status and a text only, so the status decides for them, by the meaning they give it:
UNAUTHENTICATED, PERMISSION_DENIED and NOT_FOUND on a stream are an invitation to register again,
FAILED_PRECONDITION is a revoked agent that should stay quiet.

Left to others: reading metadata (`transport`), waiting (`lifecycle`).
"""

from ct_ops_agent.errors import (
    AgentError,
    CredentialRejectedError,
    EnrolmentRefusedError,
    Refusal,
    UnreachableError,
)

WORTH_TELLING_SKEW_S = 60.0
_HOUR_S = 3600.0
_NEW_TOKEN = "create a new one on the server (ct-ops-server token create) and set it as enrolment token"
_SENTENCES = {
    "unknown_agent": "the server does not know this agent; it may have been deleted there",
    "pending": "this agent still waits for approval; an operator has to approve it on the server",
    "rejected": "an operator rejected this agent; ask for a new decision on the server",
    "revoked": "this agent was revoked on the server; only an operator can let it in again",
    "quarantined": "this agent is quarantined: another host speaks as it too, so its data directory or its machine was "
    "copied; nothing is lost, an operator decides on the server (ct-ops-server clones list)",
    "split_off": "this host is a copy of another one, which kept the agent; it makes a key of its own and enrols anew",
    "token_missing": f"the server wants an enrolment token to let this agent in; {_NEW_TOKEN}",
    "token_unknown": f"the server does not know this enrolment token; {_NEW_TOKEN}",
    "token_expired": f"the enrolment token has expired; {_NEW_TOKEN}",
    "token_exhausted": f"the enrolment token has no uses left; {_NEW_TOKEN}",
    "token_revoked": f"the enrolment token was revoked; {_NEW_TOKEN}",
    "leaf_expired": "this agent's certificate has expired; it registers again with the same key",
    "key_mismatch": "certificate, key and agent token do not belong together; "
    "if this host was cloned, remove the copy's data directory",
    "leaf_not_yet_valid": "this agent's certificate is not valid yet by the server's clock; "
    "it registers again with the same key",
    "key_replaced": "this agent has another key by now; if this host is a copy, remove its data directory",
    "proof_stale": "the server's challenge was answered too late; the agent asks for another one",
    "token_network": "this enrolment token may not be used from this network; ask for one that may",
    "token_hostname": "this enrolment token is for hosts of other names; ask for one for this host",
    "too_many_pending": "too many agents of this enrolment token wait for approval; an operator has to decide",
    "proof_invalid": "the server does not accept this agent's proof of its key; is another server in between?",
    "clock_skew": "this host's clock is too far off; set it (NTP) and the agent comes back by itself",
    "limit": "the server has reached a limit and asks to come back later",
    "host_already_enrolled": "a live host with this name or machine id is enrolled already; "
    "remove its record on the server first",
    "leaf_unknown_authority": "the server does not know who signed this agent's certificate; "
    "it registers again with the same key",
}

_REGISTER_AGAIN_REASONS = frozenset(
    {
        "unknown_agent",
        "pending",
        "leaf_expired",
        "leaf_not_yet_valid",
        "leaf_unknown_authority",
        "key_mismatch",
    }
)
SPLIT_OFF = "split_off"
"""This host's key is another host's: it shall have one of its own."""

_STAY_QUIET_REASONS = frozenset(
    {"revoked", "rejected", "quarantined", "clock_skew", "key_replaced", SPLIT_OFF}
)
_LATER_REASONS = frozenset({"limit"})

_REGISTER_AGAIN_STATUSES = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND"})
_STAY_QUIET_STATUSES = frozenset({"FAILED_PRECONDITION"})
_REGISTER_REFUSED_STATUSES = frozenset(
    {
        "INVALID_ARGUMENT",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "revoked",
    }
)


def explain(refusal: Refusal) -> str:
    """Return one sentence for the operator: what happened, and the next step when we know it.

    Two clocks that are far apart explain most refusals of certificates and tokens, and nobody thinks of
    them: they are named whatever the reason. The request's id leads to the same refusal in the server's log.
    """
    sentence, skew_s = _what_happened(refusal), refusal.clock_skew_s
    if skew_s is not None and abs(skew_s) >= WORTH_TELLING_SKEW_S:
        sentence = f"{sentence} ({describe_skew(skew_s)})"
    return f"{sentence} [request {refusal.request_id}]" if refusal.request_id else sentence


def describe_skew(skew_s: float) -> str:
    """Return how this host's clock differs from the server's, and what to do."""
    seconds = abs(skew_s)
    size = f"{seconds / 3600:.1f} h" if seconds >= _HOUR_S else f"{seconds:.0f} s"
    direction = "ahead of" if skew_s > 0 else "behind"
    return f"this host's clock is {size} {direction} the server's: set it, best by NTP"


def _what_happened(refusal: Refusal) -> str:
    known = _SENTENCES.get(refusal.reason)
    if known is not None:
        return known
    said = refusal.detail or refusal.status.lower().replace("_", " ")
    if refusal.reason:
        return said  # a server that names reasons writes its texts for operators
    if "enrolment token" in said:
        return f"the server refused: {said}; {_NEW_TOKEN}"
    return f"the server refused: {said}"


def refused_stream(refusal: Refusal) -> AgentError:
    """Decide what a heartbeat stream that ended with `refusal` calls for."""
    match (refusal.reason, refusal.status):
        case (reason, _) if reason in _LATER_REASONS:
            return _later(refusal)
        case (reason, _) if reason in _STAY_QUIET_REASONS:
            return EnrolmentRefusedError(explain(refusal), refusal)
        case (reason, _) if reason in _REGISTER_AGAIN_REASONS:
            return CredentialRejectedError(explain(refusal), refusal)
        case (_, status) if status in _STAY_QUIET_STATUSES:
            return EnrolmentRefusedError(explain(refusal), refusal)
        case (_, status) if status in _REGISTER_AGAIN_STATUSES:
            return CredentialRejectedError(explain(refusal), refusal)
        case _:
            return _later(refusal)


def refused_registration(refusal: Refusal) -> AgentError:
    """Decide what a Register that ended with `refusal` calls for."""
    if refusal.reason not in _LATER_REASONS and refusal.status in _REGISTER_REFUSED_STATUSES:
        return EnrolmentRefusedError(explain(refusal), refusal)
    return _later(refusal)


def _later(refusal: Refusal) -> UnreachableError:
    return UnreachableError(
        explain(refusal), retry_after=refusal.retry_after, reconnect_within=refusal.reconnect_within
    )
