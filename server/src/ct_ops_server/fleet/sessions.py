"""One heartbeat stream, from its first frame to its end.

Opening a stream proves three times that the agent is who it says (the leaf at the handshake, the agent
token in the first frame, the agent's row), and raises the agent's *generation*. Every later write of
the stream names that generation and finds no row when the agent was revoked or has a younger stream:
so a heartbeat cannot undo a revocation, and a late end cannot mark a reconnected host offline (rule 18).

A frame is acknowledged after the transaction that holds it was committed, never before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ct_ops_server.authority.agent_token import (
    AgentTokenClaims,
    Audience,
    TokenInvalidError,
    TokenVerifier,
)
from ct_ops_server.fleet.model import (
    AgentStatus,
    Facts,
    Frame,
    HeartbeatWrite,
    StreamClosing,
    StreamOpening,
    StreamRefused,
)
from ct_ops_server.fleet.ports import StreamStore
from ct_ops_server.fleet.sides import Side

_log = logging.getLogger("ct_ops_server.clones")


class SessionRefusedError(Exception):
    """The stream may not be opened, or not go on. ``reason`` is a key of ``edge.refusals``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CloneFoundError(SessionRefusedError):
    """This very opening has proven that two hosts speak as the agent, which is quarantined now."""

    def __init__(self) -> None:
        super().__init__("quarantined")


@dataclass(frozen=True, slots=True)
class Greeting:
    """What opens a stream: the verified leaf's identity, and the first frame's claims."""

    agent_id: str
    key_id: str
    leaf_sha256: bytes
    claimed_token: str
    """The value of ``agent_id`` in the first frame: the agent token."""
    interval: timedelta | None = None
    side: Side | None = None
    """Who opens it, as far as its first frame tells."""


class Sessions:
    """Opens heartbeat sessions of this worker."""

    def __init__(
        self, store: StreamStore, *, verifier: TokenVerifier, worker_id: str, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._worker_id = worker_id
        self._now = now

    async def open(self, greeting: Greeting) -> Session:
        """Open a session.

        Raises:
            SessionRefusedError: the token, or the agent's row, does not admit it.
            StoreError: the store did not answer; no conclusion about the agent.
        """
        if reason := self.fault_of_token(greeting):
            raise SessionRefusedError(reason)
        answer = await self._store.open_stream(
            StreamOpening(
                greeting.agent_id, greeting.key_id, self._worker_id, greeting.interval, greeting.side
            )
        )
        if isinstance(answer, StreamRefused) and answer.clone_found:
            _log.warning("two hosts speak as agent %s: it is quarantined", greeting.agent_id)
            raise CloneFoundError
        if isinstance(answer, StreamRefused):
            raise SessionRefusedError(opening_refusal(answer))
        return Session(self._store, greeting.agent_id, answer.generation, must_rotate=answer.must_rotate)

    async def why_not_served(self, agent_id: str) -> str:
        """Return why an agent with a valid leaf gets no service, from its row as it is now."""
        return refusal_reason(await self._store.agent_status(agent_id))

    def fault_of_token(self, greeting: Greeting) -> str | None:
        """Return what is wrong with the agent token that is claimed; None when it is good."""
        if not greeting.claimed_token:
            return "agent_token_missing"
        try:
            claims = self._verifier.verify(greeting.claimed_token, now=self._now())
        except TokenInvalidError:
            return "agent_token_invalid"
        return token_fault(claims, greeting)


def token_fault(claims: AgentTokenClaims, greeting: Greeting) -> str | None:
    """Return why a genuine token does not open this stream; None when it does.

    An expired token is good enough beside a valid leaf of the same agent (rule 11): nobody is locked
    out for having been offline. A bootstrap token is what an *unproven* Register got, so it must be
    young, and counts only beside the very leaf it was given out with.
    """
    if claims.agent_id != greeting.agent_id:
        return "agent_token_of_another_agent"
    if claims.audience is not Audience.BOOTSTRAP:
        return None
    if claims.expired:
        return "agent_token_expired"
    return None if claims.leaf_sha256 == greeting.leaf_sha256 else "agent_token_invalid"


def refusal_reason(status: AgentStatus | None) -> str:
    """Return why an agent whose row has this status (None: no row) gets no service."""
    match status:
        case None:
            return "unknown_agent"
        case AgentStatus.PENDING:
            return "pending"
        case AgentStatus.REVOKED:
            return "revoked"
        case AgentStatus.QUARANTINED:
            return "quarantined"
        case AgentStatus.ACTIVE:
            return "superseded"


def opening_refusal(answer: StreamRefused) -> str:
    """Return why a stream was not opened. A revoked agent hears that, whatever its key."""
    if answer.split_off:
        return "split_off"
    if answer.status is AgentStatus.ACTIVE and answer.key_replaced:
        return "key_replaced"
    return refusal_reason(answer.status)


class Session:
    """One open stream's writes."""

    def __init__(
        self, store: StreamStore, agent_id: str, generation: int, *, must_rotate: bool = False
    ) -> None:
        self._store = store
        self._agent_id = agent_id
        self.generation = generation
        """Which of the agent's streams this is."""
        self.must_rotate = must_rotate
        """The agent shall have another key, because a copy holds this one."""
        self._stored_facts: Facts | None = None

    async def record(self, frame: Frame, *, patience_s: float = 0.0) -> None:
        """Store a frame; returns after its commit, for which it may wait so long for company.

        Raises:
            SessionRefusedError: the agent was revoked or deleted, or a younger stream has taken over.
            StoreError: nothing was stored.
        """
        facts = None if frame.facts == self._stored_facts else frame.facts
        write = HeartbeatWrite(
            self._agent_id, self.generation, frame.vitals, facts, clock_skew=frame.clock_skew
        )
        if not await self._store.record_heartbeat(write, patience_s=patience_s):
            raise SessionRefusedError(refusal_reason(await self._store.agent_status(self._agent_id)))
        self._stored_facts = frame.facts

    async def close(self) -> None:
        """Mark the agent offline, unless it has a younger stream."""
        await self._store.close_stream(StreamClosing(self._agent_id, self.generation))
