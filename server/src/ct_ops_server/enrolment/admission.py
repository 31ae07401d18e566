"""Admission: what a Register leads to, as one decision table. Pure.

    key      proven  status   token                     a Register …
    known    any     revoked  any                       … is told so
    known    any     pending  any                       … is told to wait
    known    yes     active   any, also none            … gets id, agent token and leaf
    known    no      active   was ever issued here      … gets the stored leaf and a short bootstrap token
    known    no      any      none, or never issued     … is answered like an unknown key
    unknown  any     -        none                      … is refused: token_missing
    unknown  any     -        never issued              … is refused: token_unknown
    unknown  any     -        expired, exhausted, …     … is refused with that reason
    unknown  any     -        good, live twin           … is refused: host_already_enrolled
    unknown  any     -        good, same hostname       … waits for an operator, with the evidence
    unknown  any     -        good                      … waits, or is active at once (auto-approve)

*Proven* means that the key itself was proven just now (TLS handshake or signed challenge, rule 12). A
CSR proves nothing fresh: an existing agent's is byte-identical on every Register, so whoever saw one
can replay it. What an unproven Register gets is worthless without the private key.

A *live twin* is an online host with the same hostname and the same observed source address (rule 14);
what an agent says about its own addresses never enters here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ct_ops_server.enrolment.model import Collision, EnrolledAgent, Refusal, TokenRecord, TokenState
from ct_ops_server.fleet.model import AgentStatus


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
    """Known and pending."""

    agent: EnrolledAgent


@dataclass(frozen=True, slots=True)
class Admit:
    """An unknown key with a good token."""

    token: TokenRecord
    status: AgentStatus
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody is admitted."""

    reason: Refusal


Verdict = Welcome | HandOverStored | Wait | Admit | Refuse

_DEAD_TOKEN = {
    TokenState.EXPIRED: Refusal.TOKEN_EXPIRED,
    TokenState.EXHAUSTED: Refusal.TOKEN_EXHAUSTED,
    TokenState.REVOKED: Refusal.TOKEN_REVOKED,
}


def decide(
    *,
    known: EnrolledAgent | None,
    proven: bool,
    token_given: bool,
    token: TokenRecord | None,
    collision: Collision | None,
    now: datetime,
) -> Verdict:
    """Return what a Register leads to. ``token`` is the stored one, None when there is no such token."""
    if known is not None and (proven or token is not None):
        return _known(known, proven=proven)
    if token is None:
        return Refuse(Refusal.TOKEN_UNKNOWN if token_given else Refusal.TOKEN_MISSING)
    if (dead := dead_token(token.state(now))) is not None:
        return Refuse(dead)
    return _unknown(token, collision)


def dead_token(state: TokenState) -> Refusal | None:
    """Return why a token in this state admits nobody; None when it does."""
    return _DEAD_TOKEN.get(state)


def _known(agent: EnrolledAgent, *, proven: bool) -> Verdict:
    match agent.status:
        case AgentStatus.REVOKED:
            return Refuse(Refusal.REVOKED)
        case AgentStatus.PENDING:
            return Wait(agent)
        case AgentStatus.ACTIVE:
            return Welcome(agent) if proven else HandOverStored(agent)


def _unknown(token: TokenRecord, collision: Collision | None) -> Verdict:
    if collision is None:
        return Admit(token, AgentStatus.ACTIVE if token.terms.auto_approve else AgentStatus.PENDING)
    if collision.live and collision.same_address:
        return Refuse(Refusal.HOST_ALREADY_ENROLLED)
    state = "online" if collision.live else "offline"
    evidence = f"agent {collision.agent_id} ({state}) has the same hostname; admin review required"
    return Admit(token, AgentStatus.PENDING, evidence)
