"""What was decided after a copy was made, as events: the audit log tells them, ``store.replaying`` does them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ct_ops_server.enrolment.carried_ports import AnsweredRequest
from ct_ops_server.fleet.model import AgentStatus


@dataclass(frozen=True, slots=True)
class Said:
    """Who decided, why, and when."""

    actor: str
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Subject:
    """Which agent: ids stay, and the names are of then."""

    agent_id: str
    key_id: str
    hostname: str


@dataclass(frozen=True, slots=True)
class AgentRevoked:
    """Revoked, rejected, or gone by itself: refused for good."""

    agent: Subject
    said: Said


@dataclass(frozen=True, slots=True)
class AgentDeleted:
    """Deleted, when it had this status."""

    agent: Subject
    status: AgentStatus
    said: Said


@dataclass(frozen=True, slots=True)
class AgentApproved:
    """Let in by an operator, for the first time or out of a quarantine."""

    agent_id: str
    said: Said


@dataclass(frozen=True, slots=True)
class KeyReplaced:
    """Its key was followed by another."""

    agent_id: str
    key_id: str
    public_key_der: bytes
    said: Said
    old_key_id: str = ""
    """Empty: not told."""


@dataclass(frozen=True, slots=True)
class TokenSpent:
    """One use."""

    token_id: str


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """Admits nobody any more."""

    token_id: str
    said: Said


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A carried request: its id is spent."""

    answered: AnsweredRequest
    at_ms: int


@dataclass(frozen=True, slots=True)
class KeyShared:
    """Copies of an agent hold its key of then: they are to make keys of their own.

    Which side was kept is not decided again, since a copy of the database from before may know neither: an agent that
    still has that key waits in quarantine for the same decision, unless it got another key since.
    """

    agent_id: str
    said: Said
    key_id: str = ""
    """Empty: not told; then it is the one that the agent has."""


@dataclass(frozen=True, slots=True)
class PlaceTaken:
    """Another agent's host took its place, with its key; the old key is barred."""

    agent: Subject
    """With the new key."""
    other_id: str
    old_key_id: str
    public_key_der: bytes
    """Of the new key; empty: not told."""
    said: Said


Event = (
    AgentRevoked
    | AgentDeleted
    | AgentApproved
    | KeyReplaced
    | TokenSpent
    | TokenRevoked
    | RequestAnswered
    | KeyShared
    | PlaceTaken
)

NAMES: Mapping[type[Event], str] = {
    AgentRevoked: "revocations",
    AgentDeleted: "deletions",
    AgentApproved: "approvals",
    KeyReplaced: "replaced keys",
    TokenSpent: "uses of enrolment tokens",
    TokenRevoked: "revocations of enrolment tokens",
    RequestAnswered: "replies to carried requests",
    KeyShared: "keys that copies share",
    PlaceTaken: "replaced hosts",
}
"""What an operator is told of each."""
