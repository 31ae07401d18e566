"""Carried requests: a Register that came as a file, and the reply that goes back as one (sneakernet).

The admission is the same one, by the same table (``service``): collisions, known and revoked keys are answered as
on the wire. What differs is only where things come from:

* *proof*: the request's signature, over everything in it. It is fresh while the request is younger than 30 days and
  its id was not answered. A day of the future is borne: clocks of hosts without a network are off.
* *invitation*: the operator who signs. He names a token, or has one made for this one host; that one is made only if
  the key is a stranger's, and revoked at once if the host is refused.
* *address*: none. A token for certain networks admits nobody who was carried here.

An id is spent when a leaf is given out, not before: a host that has to wait for approval comes with the same file
again. Spent, it is answered once more for as long as the agent still has that very leaf, because sticks get lost.
After a rotation, a renewal or a deletion it is a replay. A crash between admission and spending costs nothing: the
same file then finds a known key, and is given the leaf that is stored.

What is asked for here is written in the refusals when it is refused; the host's operator cannot hear it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ct_ops_proto.carried_enrolment import CarriedReply
from ct_ops_server.enrolment.carried_ports import AnsweredRequest, CarriedStore
from ct_ops_server.enrolment.model import (
    Application,
    EnrolmentRefusedError,
    Refusal,
    RefusalNote,
    Registration,
    TokenRecord,
    TokenTerms,
)
from ct_ops_server.enrolment.service import Enrolment, refusal
from ct_ops_server.enrolment.token_ports import RefusalStore
from ct_ops_server.enrolment.tokens import TokenDesk
from ct_ops_server.fleet.model import AgentStatus, Tag

OLDEST = timedelta(days=30)
FUTURE_BORNE = timedelta(days=1)
_TOKEN_LIFETIME = timedelta(days=2)
"""Nobody has its secret; the end is for one that a crash left, and far enough for clocks that are hours apart."""
_LABEL_CHARS = 100


@dataclass(frozen=True, slots=True)
class Submission:
    """A carried request, its form checked; ``application.key_is_proven`` tells whether its signature is good."""

    request_id: str
    digest: bytes
    """SHA-256 of what was signed."""
    made_at: datetime
    application: Application


@dataclass(frozen=True, slots=True)
class Invitation:
    """By what an operator admits a stranger: a token that he names, else one made for this host."""

    selector: str | None = None
    """Its id, a prefix of it, or its label."""
    digest: bytes | None = None
    """Or SHA-256 of its secret part, from whoever has the token itself at hand."""
    approve: bool = False
    tags: tuple[Tag, ...] = ()


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where agents meet this server, and what they shall believe there."""

    addresses: tuple[str, ...]
    ca_pem: str
    ca_sha256: bytes
    """Of the certificate that is pinned."""


@dataclass(frozen=True, slots=True)
class Signed:
    """An active agent, and the reply to be carried to its host."""

    reply: CarriedReply
    meeting: Meeting
    answered_before: bool
    """The same request was answered before, with the same leaf."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An operator has to decide; the same request is to be signed again then."""

    agent_id: str


class CarriedDesk:
    """Where operators have carried requests signed."""

    def __init__(
        self,
        enrolment: Enrolment,
        tokens: TokenDesk,
        answered: CarriedStore,
        refusals: RefusalStore,
        *,
        meeting: Callable[[], Meeting],
        installation_id: str,
        now: Callable[[], datetime],
    ) -> None:
        """Prepare the desk; ``meeting`` tells what is true of this server at that moment."""
        self._enrolment = enrolment
        self._tokens = tokens
        self._answered = answered
        self._refusals = refusals
        self._meeting = meeting
        self._installation_id = installation_id
        self._now = now

    async def sign(self, submission: Submission, invitation: Invitation, *, actor: str) -> Signed | Waiting:
        """Admit the host as a Register would, and return the reply.

        Raises:
            EnrolmentRefusedError: nobody is admitted; the refusal is recorded.
            TokenError: the token that is named is not exactly one.
            ValueError: nobody knows where agents reach this server, or the tags cannot be meant.
            StoreError: the store did not answer; nothing was given out.
        """
        try:
            return await self._sign(submission, invitation, actor)
        except EnrolmentRefusedError as refused:
            await self._refusals.record_refusals([_note(refused, submission.application)])
            raise

    async def _sign(self, submission: Submission, invitation: Invitation, actor: str) -> Signed | Waiting:
        if fault := _fault(submission, self._now()):
            raise refusal(fault)
        meeting = self._known_meeting()
        answered_before = await self._was_answered(submission)
        registration = await self._register(submission.application, invitation, actor)
        if registration.status is not AgentStatus.ACTIVE:
            return Waiting(registration.agent_id)
        await self._spend(submission, registration, actor)
        return Signed(self._reply(submission, registration, meeting), meeting, answered_before)

    async def _was_answered(self, submission: Submission) -> bool:
        """Return whether this very request was answered, and its agent still has what it was given.

        Raises:
            EnrolmentRefusedError: it is a replay.
        """
        answered = await self._answered.find_answered(submission.request_id)
        if answered is None:
            return False
        holder = await self._enrolment.holder_of(submission.application.key_id)
        if (
            answered.digest != submission.digest
            or holder is None
            or holder.leaf_sha256 != answered.leaf_sha256
        ):
            raise refusal(Refusal.REQUEST_REPLAYED)
        return True

    async def _register(self, application: Application, invitation: Invitation, actor: str) -> Registration:
        if named := await self._named(invitation):
            return await self._enrolment.register(application, named)
        try:
            return await self._enrolment.register(application)
        except EnrolmentRefusedError as refused:
            if refused.reason is not Refusal.TOKEN_MISSING:
                raise
        return await self._admit_stranger(application, invitation, actor)

    async def _named(self, invitation: Invitation) -> TokenRecord | None:
        """Return the token that the operator names; None when he names none."""
        if invitation.selector is not None:
            return await self._tokens.find(invitation.selector)
        if invitation.digest is None:
            return None
        known = await self._tokens.known(invitation.digest)
        if known is None:
            raise refusal(Refusal.TOKEN_UNKNOWN)
        return known

    async def _admit_stranger(
        self, application: Application, invitation: Invitation, actor: str
    ) -> Registration:
        made = await self._tokens.create(self._terms(application, invitation), actor=actor)
        try:
            return await self._enrolment.register(application, made.record)
        except EnrolmentRefusedError as refused:
            reason = f"the carried request that it was made for was refused: {refused.reason}"
            await self._tokens.revoke(made.record.id, actor=actor, reason=reason)
            raise

    def _terms(self, application: Application, invitation: Invitation) -> TokenTerms:
        return TokenTerms(
            label=f"carried request of {application.hostname}"[:_LABEL_CHARS],
            auto_approve=invitation.approve,
            max_uses=1,
            expires_at=self._now() + _TOKEN_LIFETIME,
            tags=invitation.tags,
        )

    async def _spend(self, submission: Submission, registration: Registration, actor: str) -> None:
        answered = AnsweredRequest(
            request_id=submission.request_id,
            digest=submission.digest,
            key_id=submission.application.key_id,
            agent_id=registration.agent_id,
            leaf_sha256=registration.leaf_sha256,
            actor=actor,
        )
        if not await self._answered.record_answered(answered):
            raise refusal(Refusal.REQUEST_REPLAYED)

    def _known_meeting(self) -> Meeting:
        meeting = self._meeting()
        if not meeting.addresses:
            raise ValueError(
                "nothing is known about where agents reach this server: start it first (its port is chosen "
                "then), or set INGEST_PUBLIC_ADDRESS=host:port"
            )
        return meeting

    def _reply(self, submission: Submission, registration: Registration, meeting: Meeting) -> CarriedReply:
        return CarriedReply(
            request_id=submission.request_id,
            agent_id=registration.agent_id,
            hostname=submission.application.hostname,
            made_at_unix=int(self._now().timestamp()),
            leaf_pem=registration.leaf_pem,
            agent_ca_pem=registration.authority_pem,
            agent_token=registration.agent_token,
            server_ca_pem=meeting.ca_pem,
            addresses=meeting.addresses,
            installation_id=self._installation_id,
        )


def _fault(submission: Submission, now: datetime) -> Refusal | None:
    """Return why a request is refused whatever the store knows; None when it is not."""
    if not submission.application.key_is_proven:
        return Refusal.REQUEST_ALTERED
    if submission.made_at < now - OLDEST:
        return Refusal.REQUEST_TOO_OLD
    if submission.made_at > now + FUTURE_BORNE:
        return Refusal.REQUEST_FROM_THE_FUTURE
    return None


def _note(refused: EnrolmentRefusedError, application: Application) -> RefusalNote:
    return RefusalNote(
        reason=refused.reason,
        key_id=application.key_id,
        hostname=application.hostname,
        observed_address=application.observed_address,
        token_id=refused.token_id,
    )
