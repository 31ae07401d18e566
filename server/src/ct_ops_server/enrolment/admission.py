"""Admission: what a Register leads to, as one decision table. Pure.

``RULES`` *is* the table: read from the top, the first row that applies answers. docs/enrolment.md prints
it from here. Words of the table:

* *proven*: the key itself was proven just now, by the TLS handshake or by a signed challenge (rule 12).
  A CSR proves nothing fresh: an existing agent's is byte-identical on every Register, so whoever saw one
  can replay it. What an unproven Register gets is worthless without the private key.
* *introduced*: proven, or beside a token that this server once issued, whatever became of it. Anybody
  else is answered as if the key were unknown: nobody learns by asking which keys there are.
* *our leaf*: the handshake proved the key with a valid leaf of an active authority of ours. An agent with
  one that the store does not know was enrolled after the backup that the store was restored from. Where
  its key was split since, and no other followed, it may be the host that was kept as well as its copy.
* *twin*: another agent, not revoked, with the same machine id, or with the same hostname. A *live twin*
  is online and has the same machine id, or the same hostname at the same observed address (rule 14). What
  an agent says about its own addresses never enters here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from ct_ops_server.enrolment.model import (
    Application,
    Collision,
    EnrolledAgent,
    Findings,
    Refusal,
    TokenRecord,
    TokenState,
    TokenTerms,
)
from ct_ops_server.fleet.model import ENROLLED_AFTER_BACKUP, SPLIT_AFTER_BACKUP, AgentStatus


@dataclass(frozen=True, slots=True)
class Welcome:
    """A known, active key that was proven: give it everything."""

    agent: EnrolledAgent


@dataclass(frozen=True, slots=True)
class HandOverStored:
    """A known, active key without fresh proof: only what is worthless to anybody else."""

    agent: EnrolledAgent


@dataclass(frozen=True, slots=True)
class Wait:
    """Known, and pending or quarantined."""

    agent: EnrolledAgent


@dataclass(frozen=True, slots=True)
class Admit:
    """An unknown key with a good token."""

    token: TokenRecord
    status: AgentStatus
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Restore:
    """An agent of ours that the store has forgotten: back under its own id, as an operator decides."""

    agent_id: str
    evidence: str
    status: AgentStatus = AgentStatus.PENDING


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody is admitted."""

    reason: Refusal


@dataclass(frozen=True, slots=True)
class SplitOff:
    """The key is one that a copy holds: it waits until its host has a key of its own."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class AdmitCopy:
    """An unknown key of a host that was a copy, and proved the key that it had until then."""

    agent_id: str
    evidence: str


Verdict = SplitOff | AdmitCopy | Welcome | HandOverStored | Wait | Admit | Restore | Refuse


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that a verdict depends on."""

    application: Application
    findings: Findings
    now: datetime

    @property
    def introduced(self) -> bool:
        """Whether the applicant may learn what becomes of its key."""
        return self.application.key_is_proven or self.findings.token is not None

    def known_as(self, status: AgentStatus) -> bool:
        """Whether the key is that of an agent with this status, and the applicant may know it."""
        known = self.findings.known
        return self.introduced and known is not None and known.status is status

    @property
    def known(self) -> EnrolledAgent:
        """The agent that holds the key."""
        assert self.findings.known is not None
        return self.findings.known

    @property
    def token(self) -> TokenRecord:
        """The token that was shown, as it is stored."""
        assert self.findings.token is not None
        return self.findings.token

    def token_is(self, state: TokenState) -> bool:
        """Whether the token is in this state."""
        return self.token.state(self.now) is state

    @property
    def is_forgotten(self) -> bool:
        """Whether a valid leaf of ours names an agent that is neither stored nor deleted."""
        return self.application.leaf_agent_id is not None and not (
            self.findings.known or self.findings.leaf_agent_is_taken
        )

    @property
    def holds_split_key(self) -> bool:
        """Whether the applicant applies with a key that a copy holds."""
        presented = self.application.presented_key_id or self.application.key_id
        return self.findings.split_from is not None and presented == self.application.key_id

    @property
    def is_forgotten_side(self) -> bool:
        """Whether the applicant is a side, kept or not, of an agent that was split, and is neither stored nor deleted."""
        is_of_it = self.findings.split_from == self.application.leaf_agent_id
        return self.is_forgotten and self.holds_split_key and is_of_it and self.findings.split_is_open

    @property
    def was_copy(self) -> bool:
        """Whether the applicant has proven a key of its own, and that it held one that was split off."""
        is_another = self.findings.split_from is not None and not self.holds_split_key
        return is_another and self.application.key_is_proven

    @property
    def has_good_token(self) -> bool:
        """Whether the token alone would let a new host in, one that nobody takes for another."""
        token = self.findings.token
        return (
            token is not None
            and token.state(self.now) is TokenState.ACTIVE
            and network_allowed(token.terms, self.application.observed_address)
            and hostname_allowed(token.terms, self.application.hostname)
            and self.findings.collision is None
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. The texts are for people, ``applies`` and ``answer`` are what happens."""

    key: str
    proven: str
    token: str
    host: str
    then: str
    applies: Callable[[Case], bool]
    answer: Callable[[Case], Verdict]


def _refuse(reason: Refusal) -> Callable[[Case], Verdict]:
    return lambda _case: Refuse(reason)


def _dead_token(state: TokenState, reason: Refusal) -> Rule:
    return Rule(
        "unknown", "any", state.value, "any", f"refused: `{reason}`",
        lambda case: case.token_is(state), _refuse(reason),
    )  # fmt: skip


RULES: tuple[Rule, ...] = (
    Rule(
        "revoked", "introduced", "any", "any", "refused: `revoked`",
        lambda case: case.known_as(AgentStatus.REVOKED), _refuse(Refusal.REVOKED),
    ),
    Rule(
        "deleted while revoked", "introduced", "any", "any", "refused: `revoked`",
        lambda case: case.introduced and case.findings.key_is_barred, _refuse(Refusal.REVOKED),
    ),
    Rule(
        "pending", "introduced", "any", "any", "waits for an operator",
        lambda case: case.known_as(AgentStatus.PENDING), lambda case: Wait(case.known),
    ),
    Rule(
        "quarantined", "introduced", "any", "any", "waits, as pending, for an operator",
        lambda case: case.known_as(AgentStatus.QUARANTINED), lambda case: Wait(case.known),
    ),
    Rule(
        "active", "yes", "any, also none", "any", "welcome: id, agent token and leaf",
        lambda case: case.known_as(AgentStatus.ACTIVE) and case.application.key_is_proven,
        lambda case: Welcome(case.known),
    ),
    Rule(
        "active", "no", "once issued here", "any", "the stored leaf, and an agent token for 10 minutes",
        lambda case: case.known_as(AgentStatus.ACTIVE), lambda case: HandOverStored(case.known),
    ),
    Rule(
        "split, in our leaf", "yes", "any, also none", "any",
        "quarantined under its own id: split after the backup",
        lambda case: case.is_forgotten_side,
        lambda case: Restore(str(case.application.leaf_agent_id), SPLIT_AFTER_BACKUP, AgentStatus.QUARANTINED),
    ),
    Rule(
        "split off", "introduced", "any", "any", "waits, as pending, until it has a key of its own",
        lambda case: case.introduced and case.holds_split_key,
        lambda case: SplitOff(str(case.findings.split_from)),
    ),
    Rule(
        "unknown, in our leaf", "yes", "any, also none", "any",
        "pending under its own id: enrolled after the backup",
        lambda case: case.is_forgotten,
        lambda case: Restore(str(case.application.leaf_agent_id), ENROLLED_AFTER_BACKUP),
    ),
    Rule(
        "unknown, beside a key split off", "yes", "none that is good", "any", "pending: was a copy of another host",
        lambda case: case.was_copy and not case.has_good_token,
        lambda case: AdmitCopy(str(case.findings.split_from), f"was a copy of agent {case.findings.split_from}"),
    ),
    Rule(
        "unknown", "any", "none", "any", f"refused: `{Refusal.TOKEN_MISSING}`",
        lambda case: not (case.application.token or case.findings.token), _refuse(Refusal.TOKEN_MISSING),
    ),
    Rule(
        "unknown", "any", "not of this server", "any", f"refused: `{Refusal.TOKEN_UNKNOWN}`",
        lambda case: case.findings.token is None, _refuse(Refusal.TOKEN_UNKNOWN),
    ),
    _dead_token(TokenState.REVOKED, Refusal.TOKEN_REVOKED),
    _dead_token(TokenState.EXPIRED, Refusal.TOKEN_EXPIRED),
    _dead_token(TokenState.EXHAUSTED, Refusal.TOKEN_EXHAUSTED),
    Rule(
        "unknown", "any", "good", "outside the token's networks", f"refused: `{Refusal.TOKEN_NETWORK}`",
        lambda case: not network_allowed(case.token.terms, case.application.observed_address),
        _refuse(Refusal.TOKEN_NETWORK),
    ),
    Rule(
        "unknown", "any", "good", "not of the token's hostnames", f"refused: `{Refusal.TOKEN_HOSTNAME}`",
        lambda case: not hostname_allowed(case.token.terms, case.application.hostname),
        _refuse(Refusal.TOKEN_HOSTNAME),
    ),
    Rule(
        "unknown", "any", "good", "has a live twin", f"refused: `{Refusal.HOST_ALREADY_ENROLLED}`",
        lambda case: case.findings.collision is not None and case.findings.collision.is_live_twin,
        _refuse(Refusal.HOST_ALREADY_ENROLLED),
    ),
    Rule(
        "unknown", "any", "good, also with auto-approval", "has a twin", "pending, with the evidence",
        lambda case: case.findings.collision is not None,
        lambda case: Admit(case.token, AgentStatus.PENDING, _evidence(case.findings.collision)),
    ),
    Rule(
        "unknown", "any", "good, with auto-approval", "is new", "active: id, agent token and leaf",
        lambda case: case.token.terms.auto_approve, lambda case: Admit(case.token, AgentStatus.ACTIVE),
    ),
    Rule(
        "unknown", "any", "good", "is new", "pending",
        lambda _case: True, lambda case: Admit(case.token, AgentStatus.PENDING),
    ),
)  # fmt: skip
"""The table. The last row applies to whatever is left, so there is always an answer."""

_DEAD_TOKEN = {
    TokenState.EXPIRED: Refusal.TOKEN_EXPIRED,
    TokenState.EXHAUSTED: Refusal.TOKEN_EXHAUSTED,
    TokenState.REVOKED: Refusal.TOKEN_REVOKED,
}


def decide(application: Application, findings: Findings, *, now: datetime) -> Verdict:
    """Return what a Register leads to, given what the store knows."""
    case = Case(application, findings, now)
    return next(rule.answer(case) for rule in RULES if rule.applies(case))


def dead_token(state: TokenState) -> Refusal | None:
    """Return why a token in this state admits nobody; None when it does."""
    return _DEAD_TOKEN.get(state)


def network_allowed(terms: TokenTerms, address: str) -> bool:
    """Return whether a host at this address may use the token; a carried request has none, so no network has it."""
    if not terms.networks:
        return True
    return bool(address) and any(
        ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in terms.networks
    )


def hostname_allowed(terms: TokenTerms, hostname: str) -> bool:
    """Return whether a host of this name may use the token; case makes no difference."""
    return not terms.hostname_pattern or fnmatchcase(hostname.casefold(), terms.hostname_pattern.casefold())


def table_markdown() -> str:
    """Return the table as docs/enrolment.md shows it."""
    rows = [("the key is", "proven", "the token is", "the host", "so the Register is")]
    rows.append(("---", "---", "---", "---", "---"))
    rows += [(rule.key, rule.proven, rule.token, rule.host, rule.then) for rule in RULES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _evidence(collision: Collision | None) -> str:
    assert collision is not None
    state = "online" if collision.live else "offline"
    shared = "machine id" if collision.same_machine else "hostname"
    return f"agent {collision.agent_id} ({state}) has the same {shared}; admin review required"
