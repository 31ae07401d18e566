"""Enrolment: a host without an identity becomes a known agent, and a known one gets back in.

The steps of one attempt: key pair (made once, never replaced), CSR, Register, judge the reply, write
down what was given. Whatever is not an admission is raised as the error that names the reaction; the
waiting is `lifecycle`'s.

* The leaf of an earlier admission is presented, also when it has expired: it is the freshest proof
  of the key there is. A server that hangs up on it is asked once more without it, since an existing
  server refuses an expired leaf before Register can be reached.
* A key that was here before proves itself freshly by signing a challenge, where the server offers one:
  that gets an agent back in without its enrolment token, also with a lost leaf (rule 12).
* A leaf is kept only if it is about our own key.
* The enrolment token's hint stays here; only the secret part is sent.

This module loads `cryptography`; an enrolled daemon imports it only when it has to come back here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ct_ops_agent.control_plane import (
    Connect,
    KeyProof,
    Registration,
    RegistrationReply,
    Route,
    Session,
    Tag,
)
from ct_ops_agent.errors import ApprovalPendingError, EnrolmentRefusedError, Refusal, UnreachableError
from ct_ops_agent.host import HostFacts
from ct_ops_agent.identity.carried_request import forget_open_requests, remove_left_reply
from ct_ops_agent.identity.certificates import leaf_life, make_csr, make_key_pair
from ct_ops_agent.identity.credentials import CredentialStore, Identity
from ct_ops_agent.identity.keystore import KeyPair, keep_key_pair, load_key_pair
from ct_ops_agent.identity.rotation import KeyRotation
from ct_ops_agent.proving import Prover
from ct_ops_agent.refusals import SPLIT_OFF, explain
from ct_ops_agent.secret import Secret

_log = logging.getLogger(__name__)

_UNKNOWN_KEY_REASONS = {"token_missing", "token_unknown"}
"""How a server of ours answers a proven key that it does not know, when no token is shown."""


@dataclass(frozen=True)
class Applicant:
    """What this host says about itself when it asks to be admitted."""

    enrolment_token: Secret
    """Secret part; empty: the key has to be known already."""

    agent_version: str
    facts: HostFacts
    tags: tuple[Tag, ...]


class Enrolment:
    """Asks to be admitted, one attempt at a time."""

    def __init__(
        self,
        *,
        directory: Path,
        store: CredentialStore,
        connect: Connect,
        applicant: Applicant,
        wall: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._rotation = KeyRotation(directory)
        self._store = store
        self._connect = connect
        self._applicant = applicant
        self._wall = wall

    async def enrol(self, route: Route) -> Identity:
        """Register once and write down the admission.

        Raises:
            ApprovalPendingError: an operator has to decide, or the leaf is not signed yet.
            EnrolmentRefusedError: the server said no.
            UnreachableError: the server did not answer.
            DataDirectoryError: the identity cannot be read or kept.
        """
        if self._rotation.is_under_way and (settled := await self._settle_rotation(route)):
            return settled
        kept = load_key_pair(self._directory)
        keys = kept or self._make_keys()
        earlier = self._store.load(keys)
        registration = self._registration(keys, earlier.agent_id)
        # A key made just now is known to nobody: there is nothing to prove.
        prover = Prover(keys) if kept else None
        reply = await self._register(route, earlier.identity, registration, prover)
        try:
            identity = judge(reply, keys, earlier.identity, now_unix=self._wall())
        except ApprovalPendingError as pending:
            if earlier.identity is None:
                self._store.keep_pending(pending.agent_id)
            raise
        # The way is open now: a reply that is still on its way would bring back what is older than this.
        forget_open_requests(self._directory)
        remove_left_reply(self._directory)
        self._store.keep_identity(identity)
        _log.info("enrolled as agent %s", identity.agent_id)
        return identity

    async def separate(self, route: Route) -> Identity:
        """Become an agent of this host's own, which was a copy of another host until now.

        A new key is made and registered over a connection that the old one opens: so the server knows who asks,
        and needs no token. From its answer on the new key is this host's, also while an operator decides.

        Raises:
            ApprovalPendingError, EnrolmentRefusedError, UnreachableError, DataDirectoryError: as ``enrol``.
        """
        copied = load_key_pair(self._directory) or self._make_keys()
        presenting = self._store.load(copied).identity
        own = self._rotation.next_key()
        if own is None:
            own = make_key_pair()
            self._rotation.keep_next(own)
        try:
            reply = await self._register(route, presenting, self._registration(own, ""), Prover(own))
        except EnrolmentRefusedError:
            self._rotation.drop()
            raise
        self._rotation.promote(own)
        _log.info("this host was a copy; it has a key of its own now")
        try:
            identity = judge(reply, own, None, now_unix=self._wall())
        except ApprovalPendingError as pending:
            self._store.keep_pending(pending.agent_id)
            raise
        self._store.keep_identity(identity)
        _log.info("enrolled as agent %s", identity.agent_id)
        return identity

    async def _settle_rotation(self, route: Route) -> Identity | None:
        """Find out whether the server holds the next key; ``None``: the old one goes on.

        No enrolment token is shown: a next key that nobody knows must not become a second agent. And the
        next key is dropped only when it was proven and still not known: an unproven one is refused in the
        same words, and it may be the one that counts. Nor is one whose question may still arrive.
        """
        following = self._rotation.next_key()
        if following is None:
            return None
        registration = replace(self._registration(following, ""), enrolment_token=Secret(""))
        try:
            reply = await self._ask_with_proof(route, registration, Prover(following))
            if reply is None:
                _log.warning(
                    "this server cannot be asked about the new key; this agent goes on with the old one"
                )
                return None
            identity = judge(reply, following, None, now_unix=self._wall())
        except EnrolmentRefusedError as refused:
            if refused.refusal.reason not in _UNKNOWN_KEY_REASONS:
                raise
            if self._rotation.may_still_arrive(self._wall()):
                _log.info("the server does not hold the new key yet; this agent goes on with the one it has")
                return None
            self._rotation.drop()
            _log.info("the server never took the new key; this agent goes on with the one it has")
            return None
        self._rotation.promote(following)
        self._store.keep_identity(identity)
        _log.info("the server holds the new key; it is this agent's from now on")
        return identity

    def _make_keys(self) -> KeyPair:
        keys = make_key_pair()
        keep_key_pair(self._directory, keys)
        _log.info("made this host's key pair in %s", self._directory)
        return keys

    def _registration(self, keys: KeyPair, agent_id: str) -> Registration:
        return Registration(
            enrolment_token=self._applicant.enrolment_token,
            public_key_pem=keys.public_pem,
            csr_der=make_csr(keys),
            agent_id=agent_id,
            agent_version=self._applicant.agent_version,
            facts=self._applicant.facts,
            tags=self._applicant.tags,
        )

    async def _register(
        self, route: Route, presenting: Identity | None, registration: Registration, prover: Prover | None
    ) -> RegistrationReply:
        try:
            return await self._ask(route, presenting, registration, prover)
        except UnreachableError as error:
            if presenting is None or not error.cut_off_in_handshake:
                raise
            _log.info("the server hangs up on this agent's certificate; asking without it")
        return await self._ask(route, None, registration, prover)

    async def _ask(
        self, route: Route, presenting: Identity | None, registration: Registration, prover: Prover | None
    ) -> RegistrationReply:
        async with self._connect(route, presenting) as session:
            proof = await _try_to_prove(prover, session, registration) if prover else None
            return await session.register(replace(registration, proof=proof))

    async def _ask_with_proof(
        self, route: Route, registration: Registration, prover: Prover
    ) -> RegistrationReply | None:
        """Register, but only with a proof; ``None``: none can be made for this server."""
        async with self._connect(route, None) as session:
            proof = await prover.prove(session, registration)
            return await session.register(replace(registration, proof=proof)) if proof else None


async def _try_to_prove(prover: Prover, session: Session, registration: Registration) -> KeyProof | None:
    """Return a proof where one can be had: leaf or token may do without, so nothing here keeps from Register."""
    try:
        return await prover.prove(session, registration)
    except (EnrolmentRefusedError, UnreachableError) as error:
        _log.info("registering without a proof of the key: %s", error)
        return None


def judge(reply: RegistrationReply, keys: KeyPair, earlier: Identity | None, *, now_unix: float) -> Identity:
    """Decide what a reply to Register means.

    Args:
        reply: as the server gave it.
        keys: this agent's key pair.
        earlier: the identity of an earlier admission.
        now_unix: seconds since 1970.

    Returns:
        The identity of an active agent, complete.

    Raises:
        ApprovalPendingError: pending, or active with nothing to show for it yet.
        EnrolmentRefusedError: revoked, a status we do not know, or a leaf for another key.
    """
    match reply.status:
        case "active" if reply.leaf_pem and reply.agent_token:
            return _admit(reply, keys)
        case "active" if reply.agent_token and earlier and _still_good(earlier, reply.agent_id, now_unix):
            return Identity(
                reply.agent_id,
                reply.agent_token,
                keys,
                earlier.leaf_pem,
                earlier.agent_ca_pem,
                earlier.leaf_not_after_unix,
                earlier.leaf_not_before_unix,
            )
        case "active":
            raise ApprovalPendingError(
                f"approved as agent {reply.agent_id}; its certificate is not signed yet", reply.agent_id
            )
        case "pending" if reply.reason == SPLIT_OFF:
            refusal = Refusal("pending", SPLIT_OFF, reply.message)
            raise EnrolmentRefusedError(explain(refusal), refusal)
        case "pending" if reply.reason:
            raise ApprovalPendingError(
                explain(Refusal("pending", reply.reason, reply.message)), reply.agent_id
            )
        case "pending":
            raise ApprovalPendingError(
                f"waiting for approval as agent {reply.agent_id}: an operator has to approve it on the server",
                reply.agent_id,
            )
        case "revoked":
            refusal = Refusal("revoked", "revoked", reply.message)
            raise EnrolmentRefusedError(explain(refusal), refusal)
        case other:
            raise EnrolmentRefusedError(
                f"the server answered with the status {other!r}, which this agent does not know; "
                "approve or delete its record on the server",
                Refusal(other, "", reply.message),
            )


def _admit(reply: RegistrationReply, keys: KeyPair) -> Identity:
    try:
        life = leaf_life(reply.leaf_pem, keys)
    except ValueError as error:
        raise EnrolmentRefusedError(
            f"the server sent a certificate that cannot be used: {error}; delete this agent's record on the server",
            Refusal("active", "leaf_unusable", str(error)),
        ) from error
    return Identity(
        agent_id=reply.agent_id,
        agent_token=reply.agent_token,
        keys=keys,
        leaf_pem=reply.leaf_pem,
        agent_ca_pem=reply.agent_ca_pem,
        leaf_not_after_unix=life.not_after_unix,
        leaf_not_before_unix=life.not_before_unix,
    )


def _still_good(earlier: Identity, agent_id: str, now_unix: float) -> bool:
    return earlier.agent_id == agent_id and earlier.leaf_not_after_unix > now_unix
