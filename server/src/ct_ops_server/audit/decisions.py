"""What can be decided, and one decision as whoever takes it states it.

A decision is recorded in the transaction that carries it out (``store.audit.append``). It names who decided
(``actor``), about what (an agent, a token, or something else), and little more. Much of it comes from
hosts and operators, so a decision makes itself fit to be kept: secrets are masked, text is cut, control
characters go, and there are no fractions, which two machines may write differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from types import MappingProxyType

from ct_ops_proto.log_masking import mask

SERVER = "server"
"""The actor of what the server decides by itself."""

LONGEST_TEXT = 500
MOST_VALUES = 50
HIDDEN = "<hidden>"
_LARGEST = 2**63 - 1
_PRIVATE_KEY = "PRIVATE KEY-----"

Detail = str | int | bool | tuple[str, ...]


class Action(StrEnum):
    """Everything that is recorded. ``MEANINGS`` says what each one is; the documentation prints it."""

    TOKEN_MADE = "token.made"
    TOKEN_IMPORTED = "token.imported"
    TOKEN_REVOKED = "token.revoked"
    AGENT_ADMITTED = "agent.admitted"
    AGENT_RESTORED = "agent.restored"
    AGENT_APPROVED = "agent.approved"
    AGENT_REJECTED = "agent.rejected"
    AGENT_REVOKED = "agent.revoked"
    AGENT_DEREGISTERED = "agent.deregistered"
    AGENT_DELETED = "agent.deleted"
    AGENT_KEY_REPLACED = "agent.key_replaced"
    AGENT_QUARANTINED = "agent.quarantined"
    AGENT_SPLIT = "agent.split"
    AGENT_MERGED = "agent.merged"
    AGENT_REPLACED = "agent.replaced"
    REGISTER_REFUSED = "register.refused"
    ENROLMENT_SIGNED = "enrolment.signed"
    LEAF_ISSUED = "leaf.issued"
    LEAF_RENEWED = "leaf.renewed"
    CA_PREPARED = "ca.prepared"
    CA_ACTIVATED = "ca.activated"
    CA_RETIRED = "ca.retired"
    CA_RENEWED = "ca.renewed"
    CA_RECOGNISED = "ca.recognised"
    CA_HURRIED = "ca.hurried"
    CA_HURRY_STOPPED = "ca.hurry_stopped"
    SIGNING_KEY_PREPARED = "signing_key.prepared"
    SIGNING_KEY_ACTIVATED = "signing_key.activated"
    SIGNING_KEY_RETIRED = "signing_key.retired"
    SERVER_CA_PREPARED = "server_ca.prepared"
    SERVER_CA_ACTIVATED = "server_ca.activated"
    SERVER_CA_RETIRED = "server_ca.retired"
    SERVER_CA_WENT_BACK = "server_ca.went_back"
    QUERY_ASKED = "query.asked"
    TASK_GIVEN = "task.given"
    TASK_CANCELLED = "task.cancelled"
    CHECK_ADDED = "check.added"
    CHECK_CHANGED = "check.changed"
    CHECK_REMOVED = "check.removed"
    RELEASE_PUT = "release.put"
    RELEASE_REMOVED = "release.removed"
    RELEASE_KEY_MADE = "release.key_made"
    BUNDLE_BUILT = "bundle.built"
    DATABASE_BACKED_UP = "database.backed_up"
    DATABASE_RESTORED = "database.restored"
    AUDIT_KEY_USED = "audit_key.used"


MEANINGS: Mapping[Action, str] = MappingProxyType(
    {
        Action.TOKEN_MADE: "an enrolment token was made",
        Action.TOKEN_IMPORTED: "an enrolment token of an existing server was taken over by its digest",
        Action.TOKEN_REVOKED: "an enrolment token was revoked",
        Action.AGENT_ADMITTED: "a host became an agent, active (with its first leaf) or pending",
        Action.AGENT_RESTORED: "an agent that the database had forgotten was taken up again, as pending",
        Action.AGENT_APPROVED: "an operator approved a pending agent",
        Action.AGENT_REJECTED: "an operator rejected a pending agent",
        Action.AGENT_REVOKED: "an agent was revoked",
        Action.AGENT_DEREGISTERED: "an agent said good-bye and was revoked",
        Action.AGENT_DELETED: "an agent was deleted, by an operator or after a load test",
        Action.AGENT_KEY_REPLACED: "an agent's key was followed by another one, with a leaf of its own",
        Action.AGENT_QUARANTINED: "two hosts were seen with one identity, and both wait for an operator",
        Action.AGENT_SPLIT: "an operator made two agents of a host and its clone",
        Action.AGENT_MERGED: "an operator found that two agents are one host",
        Action.AGENT_REPLACED: "an operator let another host take an agent's place",
        Action.REGISTER_REFUSED: "applications were refused: how many, for one reason, in one stretch of time",
        Action.ENROLMENT_SIGNED: "an operator signed the enrolment request of a host without a network",
        Action.LEAF_ISSUED: "an agent that registered again was given a new leaf",
        Action.LEAF_RENEWED: "an agent's leaf was renewed on its stream",
        Action.CA_PREPARED: "an agent CA was prepared: known, and not signing yet",
        Action.CA_ACTIVATED: "an agent CA began to sign leaves",
        Action.CA_RETIRED: "an agent CA was retired",
        Action.CA_RENEWED: "an agent CA of the operator's goes on with a new certificate of the same key",
        Action.CA_RECOGNISED: "the CA of another server was recognised",
        Action.CA_HURRIED: "agents are made to renew their leaves now",
        Action.CA_HURRY_STOPPED: "an operator stopped that",
        Action.SIGNING_KEY_PREPARED: "a key for agent tokens was prepared: published, and not signing yet",
        Action.SIGNING_KEY_ACTIVATED: "a key began to sign agent tokens",
        Action.SIGNING_KEY_RETIRED: "a key for agent tokens was retired",
        Action.SERVER_CA_PREPARED: "a server CA was prepared: told to agents, and not signing yet",
        Action.SERVER_CA_ACTIVATED: "a server CA began to sign the server's certificate",
        Action.SERVER_CA_RETIRED: "a server CA was retired",
        Action.SERVER_CA_WENT_BACK: "an earlier server CA signs again: a clock had let the next one sign too early",
        Action.QUERY_ASKED: "an operator asked an agent something",
        Action.TASK_GIVEN: "an operator gave an agent a task",
        Action.TASK_CANCELLED: "an operator cancelled a task",
        Action.CHECK_ADDED: "an operator defined a check",
        Action.CHECK_CHANGED: "an operator changed a check, or switched it on or off",
        Action.CHECK_REMOVED: "an operator removed a check",
        Action.RELEASE_PUT: "an operator put a release on the shelf",
        Action.RELEASE_REMOVED: "an operator took a release off the shelf",
        Action.RELEASE_KEY_MADE: "an operator made the key that releases are signed with",
        Action.BUNDLE_BUILT: "an operator built an install bundle",
        Action.DATABASE_BACKED_UP: "an operator made a backup",
        Action.DATABASE_RESTORED: "an operator restored a backup, or went back from an upgrade",
        Action.AUDIT_KEY_USED: "a server began to sign the heads of the audit log with a key",
    }
)


ROUTINE = frozenset({Action.AGENT_ADMITTED, Action.LEAF_ISSUED, Action.LEAF_RENEWED, Action.REGISTER_REFUSED})
"""What hosts cause by themselves, many a second. Everything else is rare, and signed as soon as it is in the files."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decided. Everything in it is fit to be kept, whatever it was made of."""

    action: Action
    actor: str
    """An operator's user name, ``agent:<id>`` (see ``agent_actor``), ``enrolment``, or ``SERVER``."""
    agent: str = ""
    """Id of the agent that it is about."""
    token: str = ""
    """Id of the enrolment token that it is about: never the token."""
    subject: str = ""
    """What else it is about: the id of a check, a query or a task, a serial, a fingerprint, a file's name."""
    details: Mapping[str, Detail] = field(default_factory=dict)
    """What an auditor wants to know beside that, in a few words."""

    def __post_init__(self) -> None:
        for name in ("actor", "agent", "token", "subject"):
            if (fit := fit_text(getattr(self, name))) != getattr(self, name):
                object.__setattr__(self, name, fit)
        kept = {fit_text(key): _fit(value) for key, value in islice(self.details.items(), MOST_VALUES)}
        object.__setattr__(self, "details", MappingProxyType(kept))


def agent_actor(agent_id: str) -> str:
    """Return the actor of what an agent does by itself."""
    return f"agent:{agent_id}"


def fit_text(text: str) -> str:
    """Return ``text`` without secrets and control characters, at most ``LONGEST_TEXT`` characters of it."""
    if len(text) <= LONGEST_TEXT and text.isprintable() and not _may_be_secret(text):
        return text  # nearly always
    # Masked before it is cut: half a token is half a secret.
    masked = mask(text) if _PRIVATE_KEY not in text else HIDDEN
    cut = masked if len(masked) <= LONGEST_TEXT else masked[: LONGEST_TEXT - 1] + "…"
    return cut if cut.isprintable() else "".join(each if each.isprintable() else " " for each in cut)


def _may_be_secret(text: str) -> bool:
    return "tok_" in text or "eyJ" in text or _PRIVATE_KEY in text


def _fit(value: Detail | Sequence[str]) -> Detail:
    if isinstance(value, str):
        return fit_text(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return max(-_LARGEST, min(_LARGEST, value))
    return tuple(fit_text(each) for each in islice(value, MOST_VALUES))


def actions_markdown() -> str:
    """Return the table of the documentation."""
    head = "| action | recorded when |\n|---|---|\n"
    return head + "".join(f"| `{action}` | {meaning} |\n" for action, meaning in MEANINGS.items())
