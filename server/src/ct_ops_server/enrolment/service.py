"""One Register, from an application to a registration; and the renewal of what it gave.

``admission`` decides; this module reads what the decision needs, and does what it says. Whatever is
given out was committed before: a lost reply costs a repetition, never a second token use.

An unproven Register changes nothing about a known agent (rule 12), with one exception: when there is
no usable leaf at all, one is signed for the key that the agent enrolled with, at most once an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from ct_ops_proto.enrolment_token import secret_digest
from ct_ops_server.authority.agent_token import Audience, TokenSigner
from ct_ops_server.authority.ca import LEAF_LIFETIME, Authority, IssuedLeaf
from ct_ops_server.authority.leaf_identity import SKEW_TOLERANCE
from ct_ops_server.authority.public_key import PublicKey, parse_spki
from ct_ops_server.enrolment import admission
from ct_ops_server.enrolment.model import (
    Application,
    EnrolledAgent,
    EnrolmentRefusedError,
    LeafOccasion,
    LeafRecord,
    NewAgent,
    NewKey,
    Refusal,
    Registration,
    Renewal,
    TokenRecord,
)
from ct_ops_server.enrolment.ports import (
    EnrolmentStore,
    KeyAlreadyEnrolledError,
    TokenNotRedeemedError,
    TooManyPendingError,
)
from ct_ops_server.fleet.model import AgentStatus

_AGENT_TOKEN_LIFETIME = timedelta(hours=24)
_BOOTSTRAP_LIFETIME = timedelta(minutes=10)
_UNPROVEN_SIGNING_INTERVAL = timedelta(hours=1)
_LEAF_KEPT_WHILE_LEFT = LEAF_LIFETIME / 2
"""A proven Register gets the stored leaf again while at least this much of its life is left."""

_SENTENCES = {
    Refusal.TOKEN_MISSING: "enrolment token and public key are required",
    Refusal.TOKEN_UNKNOWN: "invalid or expired enrolment token: this server never issued it; copy it again or ask for a new one",
    Refusal.TOKEN_EXPIRED: "invalid or expired enrolment token: it has expired; ask for a new one",
    Refusal.TOKEN_EXHAUSTED: "invalid or expired enrolment token: it has no use left; ask for a new one",
    Refusal.TOKEN_REVOKED: "invalid or expired enrolment token: it was revoked; ask for a new one",
    Refusal.TOKEN_NETWORK: "this enrolment token may not be used from this network; ask for one that may",
    Refusal.TOKEN_HOSTNAME: "this enrolment token is for hosts of other names; ask for one for this host",
    Refusal.TOO_MANY_PENDING: "too many agents of this token wait for approval; approve or reject some first",
    Refusal.PROOF_INVALID: "the key did not sign what it was asked to sign; is this agent speaking to another server?",
    Refusal.HOST_ALREADY_ENROLLED: (
        "a host matching this hostname and address, or this machine id, is already registered and online; "
        "stop, revoke or delete that agent before registering again"
    ),
    Refusal.REVOKED: "this agent was revoked by an operator; it will not be served again",
    Refusal.REQUEST_ALTERED: (
        "the signature of this request does not fit what it says: it was edited on the way, or another key signed it"
    ),
    Refusal.REQUEST_TOO_OLD: "this request was made more than 30 days ago, by its host's clock",
    Refusal.REQUEST_FROM_THE_FUTURE: "this request was made more than a day from now, by its host's clock",
    Refusal.REQUEST_REPLAYED: (
        "this request was answered before, and what it was given then is not what its agent has now"
    ),
}

_QUARANTINED = (
    "two hosts speak as this agent, so neither is served until an operator has decided: "
    "ct-ops-server clones list"
)
_SPLIT_OFF = (
    "this host is a copy of another one, which kept the agent: it needs a key of its own; an agent that cannot "
    "make one by itself does so when its data directory is deleted"
)


def refusal(reason: Refusal, token: TokenRecord | None = None) -> EnrolmentRefusedError:
    """Return the error for a reason, with its sentence; ``token`` is the one that was shown, if it is ours."""
    return EnrolmentRefusedError(reason, _SENTENCES[reason], None if token is None else token.id)


class Enrolment:
    """Admits hosts, and gives agents that come back what is theirs."""

    def __init__(
        self,
        store: EnrolmentStore,
        *,
        authority: Authority,
        signer: TokenSigner,
        installation_id: str,
        now: Callable[[], datetime],
        new_agent_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._authority = authority
        self._signer = signer
        self._installation_id = installation_id
        self._now = now
        self._new_agent_id = new_agent_id

    def sign_with(self, authority: Authority, signer: TokenSigner) -> None:
        """Sign with these from now on: a rotation has activated them."""
        self._authority, self._signer = authority, signer

    async def register(self, application: Application, invitation: TokenRecord | None = None) -> Registration:
        """Answer a Register.

        Args:
            application: what the host says.
            invitation: the token that an operator names for a host that shows none.

        Raises:
            EnrolmentRefusedError: nobody is admitted; says why.
            StoreError: the store did not answer; nothing was given out.
        """
        try:
            return await self._decide_and_do(application, invitation)
        except KeyAlreadyEnrolledError:  # the same Register twice at once: the other one made the agent
            return await self._decide_and_do(application, invitation)

    async def renew(self, agent_id: str, key_id: str) -> IssuedLeaf | None:
        """Issue a new leaf to an agent that presented a valid one; None when it is not active.

        Raises:
            StoreError: the store did not answer; nothing was given out.
        """
        agent = await self._store.find_agent(key_id)
        if agent is None or agent.id != agent_id or agent.status is not AgentStatus.ACTIVE:
            return None
        return await self._issue_and_record(agent.public_key_der, agent.id, LeafOccasion.RENEWAL)

    def renew_token(self, agent_id: str, leaf_sha256: bytes) -> Renewal:
        """Return a new agent token for an agent whose open stream proves that it is active."""
        return Renewal(agent_token=self._agent_token(agent_id, leaf_sha256))

    async def renew_leaf(self, agent_id: str, key: PublicKey) -> Renewal:
        """Issue a new leaf, and a token for it, to an agent whose open stream proves that it is active.

        Raises:
            StoreError: the store did not answer; nothing was given out.
        """
        leaf = await self._issue_and_record(key.spki_der, agent_id, LeafOccasion.RENEWAL)
        return self._renewed(agent_id, leaf)

    async def replace_key(self, agent_id: str, old_key_id: str, key: PublicKey) -> Renewal | None:
        """Let ``key``, which was proven, follow the agent's key; None when the old one is not its key any more.

        Raises:
            KeyAlreadyEnrolledError: the new key is, or was, another agent's.
            StoreError: the store did not answer; nothing was given out.
        """
        leaf = self._issue(key.spki_der, agent_id)
        replaced = await self._store.replace_key(
            agent_id, old_key_id, NewKey(key.key_id, key.spki_der), self._record(leaf, agent_id)
        )
        return self._renewed(agent_id, leaf) if replaced else None

    async def holder_of(self, key_id: str) -> EnrolledAgent | None:
        """Return the agent that holds this key.

        Raises:
            StoreError: the store did not answer.
        """
        return await self._store.find_agent(key_id)

    async def status_of_key(self, key_id: str) -> AgentStatus | None:
        """Return the status of the agent that holds this key, None when there is none.

        Raises:
            StoreError: the store did not answer.
        """
        agent = await self._store.find_agent(key_id)
        return None if agent is None else agent.status

    @property
    def authority_pem(self) -> str:
        """The certificate of the authority that issues leaves."""
        return self._authority.pem

    async def _decide_and_do(self, application: Application, invitation: TokenRecord | None) -> Registration:
        findings = await self._store.look_up(application)
        if invitation is not None:
            findings = replace(findings, token=invitation)
        match admission.decide(application, findings, now=self._now()):
            case admission.Refuse(reason):
                raise refusal(reason, findings.token)
            case admission.Wait() | admission.SplitOff() as waiting:
                return _told_to_wait(waiting)
            case admission.Welcome(agent):
                return await self._welcome(agent, application)
            case admission.HandOverStored(agent):
                return await self._hand_over(agent)
            case admission.Restore(agent_id, evidence, status):
                return await self._insert(NewAgent(agent_id, status, application, (), evidence))
            case admission.AdmitCopy(_, evidence):
                pending = AgentStatus.PENDING
                return await self._insert(NewAgent(self._new_agent_id(), pending, application, (), evidence))
            case admission.Admit(token, status, evidence):
                tags = token.terms.tags
                new = NewAgent(self._new_agent_id(), status, application, tags, evidence, token.id)
                return await self._insert(new)

    async def _insert(self, new: NewAgent) -> Registration:
        leaf = None
        if new.status is AgentStatus.ACTIVE:
            leaf = self._issue(new.application.public_key_der, new.id)
        try:
            await self._store.admit(new, leaf=None if leaf is None else self._record(leaf, new.id))
        except TokenNotRedeemedError:
            raise await self._why_not_admitted(new.application, Refusal.TOKEN_EXHAUSTED) from None
        except TooManyPendingError:
            raise await self._why_not_admitted(new.application, Refusal.TOO_MANY_PENDING) from None
        if leaf is None:
            return _waiting(new.id, new.status)
        return self._active(new.id, leaf.pem, leaf.sha256, leaf.not_after)

    async def _why_not_admitted(self, application: Application, usually: Refusal) -> EnrolmentRefusedError:
        if not application.token:
            return refusal(usually)  # an operator named the token; a moment later he sees its state
        record = await self._store.find_token(secret_digest(application.token))
        if record is None:
            return refusal(Refusal.TOKEN_UNKNOWN)
        return refusal(admission.dead_token(record.state(self._now())) or usually, record)

    async def _welcome(self, agent: EnrolledAgent, application: Application) -> Registration:
        await self._store.refresh_facts(agent.id, application)
        pem, sha256, not_after = await self._leaf_of(agent, may_sign=True)
        return self._active(agent.id, pem, sha256, not_after)

    async def _hand_over(self, agent: EnrolledAgent) -> Registration:
        last = agent.leaf_issued_at
        # Also one of the future, when our clock was ahead, is not of this hour.
        may_sign = last is None or abs(self._now() - last) >= _UNPROVEN_SIGNING_INTERVAL
        pem, sha256, not_after = await self._leaf_of(agent, may_sign=may_sign)
        return self._active(agent.id, pem, sha256, not_after, bootstrap=True)

    async def _leaf_of(self, agent: EnrolledAgent, *, may_sign: bool) -> tuple[str, bytes, datetime]:
        """Return the stored leaf (PEM, SHA-256, end), or a new one when that is due and allowed."""
        if agent.leaf_pem is not None and agent.leaf_sha256 is not None and agent.leaf_not_after is not None:
            fresh = agent.leaf_not_after - self._now() >= _LEAF_KEPT_WHILE_LEFT
            issued_by_us = agent.leaf_authority_sha256 == self._authority.sha256
            # One of a time when our clock was ahead is refused at the door until then.
            begun = agent.leaf_issued_at is not None and agent.leaf_issued_at <= self._now() + SKEW_TOLERANCE
            if (fresh and begun and issued_by_us) or not may_sign:
                return agent.leaf_pem, agent.leaf_sha256, agent.leaf_not_after
        leaf = await self._issue_and_record(agent.public_key_der, agent.id, LeafOccasion.REGISTER)
        return leaf.pem, leaf.sha256, leaf.not_after

    async def _issue_and_record(
        self, public_key_der: bytes, agent_id: str, occasion: LeafOccasion
    ) -> IssuedLeaf:
        leaf = self._issue(public_key_der, agent_id)
        await self._store.record_leaf(replace(self._record(leaf, agent_id), occasion=occasion))
        return leaf

    def _renewed(self, agent_id: str, leaf: IssuedLeaf) -> Renewal:
        token = self._agent_token(agent_id, leaf.sha256)
        return Renewal(agent_token=token, leaf_pem=leaf.pem, leaf_not_after=leaf.not_after)

    def _agent_token(self, agent_id: str, leaf_sha256: bytes, *, bootstrap: bool = False) -> str:
        return self._signer.issue(
            agent_id,
            now=self._now(),
            leaf_sha256=leaf_sha256,
            audience=Audience.BOOTSTRAP if bootstrap else Audience.AGENT,
            lifetime=_BOOTSTRAP_LIFETIME if bootstrap else _AGENT_TOKEN_LIFETIME,
        )

    def _issue(self, public_key_der: bytes, agent_id: str) -> IssuedLeaf:
        return self._authority.issue_leaf(
            parse_spki(public_key_der), agent_id, self._installation_id, now=self._now()
        )

    def _record(self, leaf: IssuedLeaf, agent_id: str) -> LeafRecord:
        return LeafRecord(
            serial=leaf.serial_hex,
            agent_id=agent_id,
            pem=leaf.pem,
            sha256=leaf.sha256,
            issued_at=self._now(),
            not_after=leaf.not_after,
            authority_sha256=self._authority.sha256,
        )

    def _active(
        self,
        agent_id: str,
        leaf_pem: str,
        leaf_sha256: bytes,
        not_after: datetime,
        *,
        bootstrap: bool = False,
    ) -> Registration:
        return Registration(
            agent_id=agent_id,
            status=AgentStatus.ACTIVE,
            message="enrolled",
            agent_token=self._agent_token(agent_id, leaf_sha256, bootstrap=bootstrap),
            leaf_pem=leaf_pem,
            leaf_sha256=leaf_sha256,
            authority_pem=self._authority.pem,
            leaf_not_after=not_after,
        )


def _told_to_wait(waiting: admission.Wait | admission.SplitOff) -> Registration:
    """Return the answer to a known key that is not served now. Existing agents exit on other statuses."""
    if isinstance(waiting, admission.SplitOff):
        return Registration(waiting.agent_id, AgentStatus.PENDING, _SPLIT_OFF, reason="split_off")
    return _waiting(waiting.agent.id, waiting.agent.status)


def _waiting(agent_id: str, status: AgentStatus) -> Registration:
    if status is AgentStatus.QUARANTINED:
        return Registration(agent_id, AgentStatus.PENDING, _QUARANTINED, reason="quarantined")
    return Registration(agent_id, AgentStatus.PENDING, "waiting for an operator's approval")
