"""What the operator of the server can do about a refused Register. docs/enrolment.md prints it from here.

The host's operator is told something else, by the refusal itself (``service``).
"""

from __future__ import annotations

from ct_ops_server.enrolment.model import Refusal

_REMEDIES = {
    Refusal.TOKEN_MISSING: "give the host a token: ct-ops-server token create",
    Refusal.TOKEN_UNKNOWN: (
        "the token is mistyped or of another server: have it copied again, or import it: ct-ops-server token import"
    ),
    Refusal.TOKEN_EXPIRED: "if the host is yours, give it a new token",
    Refusal.TOKEN_EXHAUSTED: (
        "if the host is yours, give it a new token; if it is not, see with token show whom the token admitted"
    ),
    Refusal.TOKEN_REVOKED: "somebody still has a token that was revoked; if the host is yours, give it a new one",
    Refusal.TOKEN_NETWORK: (
        "the token came from outside its networks; if the address is right, create one with another --network"
    ),
    Refusal.TOKEN_HOSTNAME: "the host's name does not fit the token; if it is right, create one with another --hostname",
    Refusal.TOO_MANY_PENDING: (
        "a thousand agents of this token wait: approve or reject some, and revoke the token if they are not yours"
    ),
    Refusal.PROOF_INVALID: (
        "the key's proof was made for another server: look whether the host's address for this one is right, "
        "and who is in between"
    ),
    Refusal.HOST_ALREADY_ENROLLED: (
        "its twin is online: if this is a copy, give it a machine id and hostname of its own; if it was set up "
        "anew, stop the old agent or delete it: ct-ops-server agent delete"
    ),
    Refusal.REVOKED: "an operator revoked this key for good; if that was a mistake, the host needs a new key",
    Refusal.REQUEST_ALTERED: (
        "do not sign it: find out who had the stick, and make a new request on the host: ct-ops-agent enrol --request FILE"
    ),
    Refusal.REQUEST_TOO_OLD: (
        "set the host's clock if it is wrong, and make a new request there: ct-ops-agent enrol --request FILE"
    ),
    Refusal.REQUEST_FROM_THE_FUTURE: (
        "set the clock that is wrong, the host's or this server's; the host then makes a new request"
    ),
    Refusal.REQUEST_REPLAYED: (
        "if the host is yours and waits for a reply, make a new request there: ct-ops-agent enrol --request FILE"
    ),
}


def remedy(reason: Refusal) -> str:
    """Return a sentence for the operator of the server."""
    return _REMEDIES[reason]


def remedies_markdown() -> str:
    """Return the table as docs/enrolment.md shows it."""
    rows = ["| reason | what to do |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{reason}` | {text} |" for reason, text in _REMEDIES.items())])
