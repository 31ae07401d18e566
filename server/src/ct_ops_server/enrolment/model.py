"""Values of enrolment. What comes from the network is *claimed* until something proves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ct_ops_server.fleet.model import AgentStatus, Tag


class Refusal(StrEnum):
    """Why a Register is refused: the value is what ``ct-ops-reason`` says on the wire."""

    TOKEN_MISSING = "token_missing"
    TOKEN_UNKNOWN = "token_unknown"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_EXHAUSTED = "token_exhausted"
    TOKEN_REVOKED = "token_revoked"
    TOKEN_NETWORK = "token_network"
    TOKEN_HOSTNAME = "token_hostname"
    TOO_MANY_PENDING = "too_many_pending"
    PROOF_INVALID = "proof_invalid"
    HOST_ALREADY_ENROLLED = "host_already_enrolled"
    REVOKED = "revoked"
    REQUEST_ALTERED = "request_altered"
    REQUEST_TOO_OLD = "request_too_old"
    REQUEST_FROM_THE_FUTURE = "request_from_the_future"
    REQUEST_REPLAYED = "request_replayed"


class EnrolmentRefusedError(Exception):
    """A Register that admits nobody. ``str()`` is a sentence for the operator of the host."""

    def __init__(self, reason: Refusal, sentence: str, token_id: str | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.token_id = token_id
        """The token that was shown, None when it was none of ours."""


class TokenState(StrEnum):
    """What an enrolment token can still do."""

    ACTIVE = "active"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """What an operator says when creating an enrolment token."""

    label: str
    auto_approve: bool = False
    max_uses: int | None = None
    expires_at: datetime | None = None
    tags: tuple[Tag, ...] = ()
    networks: tuple[str, ...] = ()
    """Networks in CIDR form from which a Register may come, as the front door sees it; empty: from any."""
    hostname_pattern: str = ""
    """Shell-style pattern (``web-*``), compared without case; empty: any hostname."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A stored enrolment token. The secret is not here: only its SHA-256 was ever stored."""

    id: str
    terms: TokenTerms
    uses: int
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None
    revoked_by: str = ""
    revoked_reason: str = ""

    def state(self, now: datetime) -> TokenState:
        """Return what the token can do at ``now``. Revoked beats expired beats exhausted."""
        if self.revoked_at is not None:
            return TokenState.REVOKED
        if self.terms.expires_at is not None and self.terms.expires_at <= now:
            return TokenState.EXPIRED
        if self.terms.max_uses is not None and self.uses >= self.terms.max_uses:
            return TokenState.EXHAUSTED
        return TokenState.ACTIVE


@dataclass(frozen=True, slots=True)
class Application:
    """A Register as it arrived: checked for form, storable, and otherwise only claims."""

    token: str = field(repr=False)
    """The secret part of the enrolment token; may be empty."""
    key_id: str
    """SHA-256 of the canonical public key, hex: proven to have signed the CSR, not proven fresh."""
    public_key_der: bytes = field(repr=False)
    hostname: str
    os: str
    os_version: str
    arch: str
    agent_version: str
    ip_addresses: tuple[str, ...]
    claimed_tags: tuple[Tag, ...]
    observed_address: str
    """Where the front door saw it come from; empty: it was carried here (``carried``)."""
    key_is_proven: bool
    """The TLS handshake (or a signed challenge, or a carried request) proved this very key, now (rule 12)."""
    machine_id: str = ""
    """Digest of the host's machine id (``ct_ops_proto.machine_identity``); empty: not said."""
    leaf_agent_id: str | None = None
    """The agent that a *valid leaf of ours* for this very key names; None without one."""
    presented_key_id: str = ""
    """The key that the handshake proved, which may be another one; empty: none."""


@dataclass(frozen=True, slots=True)
class AdmittedAgent:
    """An agent, as the token that admitted it shows it."""

    id: str
    hostname: str
    status: AgentStatus
    admitted_at: datetime


@dataclass(frozen=True, slots=True)
class RefusalNote:
    """A refusal, or several like it, about to be recorded."""

    reason: Refusal
    key_id: str
    hostname: str
    observed_address: str
    token_id: str | None
    count: int = 1


@dataclass(frozen=True, slots=True)
class RefusalRecord:
    """Somebody who was not admitted: one record for a key and a reason, however often it came back."""

    reason: Refusal
    key_id: str
    hostname: str
    observed_address: str
    token_id: str | None
    """The token that was shown, None when it was none of ours."""
    first_at: datetime
    last_at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class EnrolledAgent:
    """What the store knows about the holder of a key."""

    id: str
    status: AgentStatus
    leaf_pem: str | None
    """The youngest leaf issued, None when there is none yet."""
    leaf_sha256: bytes | None
    leaf_issued_at: datetime | None
    leaf_not_after: datetime | None
    leaf_authority_sha256: bytes | None
    public_key_der: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Collision:
    """Another, not revoked agent with this hostname or this machine id."""

    agent_id: str
    live: bool
    same_address: bool
    """It has this hostname, and registered from the address that this application comes from."""
    same_machine: bool = False
    """It has this machine id."""

    @property
    def is_live_twin(self) -> bool:
        """Whether it is this host, alive: whoever applies is a copy or an impostor (rule 14)."""
        return self.live and (self.same_address or self.same_machine)


@dataclass(frozen=True, slots=True)
class Findings:
    """What the store knows about an application, read at one moment."""

    known: EnrolledAgent | None = None
    token: TokenRecord | None = None
    """The token that was shown; None when it is none of this server's."""
    collision: Collision | None = None
    """The most serious one. Only looked for when the key is unknown."""
    key_is_barred: bool = False
    """An agent with this key was deleted while it was revoked."""
    leaf_agent_is_taken: bool = False
    """The agent that the leaf names is stored with another key, or was deleted."""
    split_from: str | None = None
    """The agent that kept the key which this connection proved, or that it applies with: its host is a copy."""
    split_is_open: bool = False
    """No other key has followed that one, as far as is known: whoever holds it may be the one who kept the agent."""


@dataclass(frozen=True, slots=True)
class NewAgent:
    """An agent about to be inserted. Without a token (None), nothing is spent."""

    id: str
    status: AgentStatus
    application: Application
    tags: tuple[Tag, ...]
    evidence: str
    token_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is to follow another."""

    key_id: str
    public_key_der: bytes = field(repr=False)


class LeafOccasion(StrEnum):
    """Why an agent was given a leaf."""

    REGISTER = "register"
    RENEWAL = "renewal"


@dataclass(frozen=True, slots=True)
class LeafRecord:
    """An issued leaf as it is stored."""

    serial: str
    agent_id: str
    pem: str
    sha256: bytes
    issued_at: datetime
    not_after: datetime
    authority_sha256: bytes
    occasion: LeafOccasion = LeafOccasion.REGISTER
    """Not stored with the leaf, but in the audit log."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """New credentials for an agent that is connected. Empty and None: not renewed."""

    agent_token: str = field(repr=False)
    leaf_pem: str = ""
    leaf_not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """The answer to a Register that was not refused."""

    agent_id: str
    status: AgentStatus
    message: str
    agent_token: str = field(default="", repr=False)
    leaf_pem: str = ""
    leaf_sha256: bytes = b""
    authority_pem: str = ""
    leaf_not_after: datetime | None = None
    reason: str = ""
    """Why it waits, for agents that can read it: a key of ``edge.refusals``; empty: for its approval."""
