"""Leaving: the server learns that this host is taken off, and admits its agent no more.

The key is the proof (`proving`); it does not matter how long the agent was away, or whether its leaf and its agent
token are still good. An existing server, and an older one of ours, cannot be told.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol

from ct_ops_agent.control_plane import Departure, Route
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.identity.keystore import KeyPair
from ct_ops_agent.proving import Challenges, Prover


class Farewell(StrEnum):
    """What the server says to it."""

    DEREGISTERED = "deregistered"
    REVOKED = "revoked"
    """An operator had revoked this agent before."""
    UNKNOWN = "unknown"
    """An operator had deleted it."""
    UNSUPPORTED = ""
    """It cannot be told."""


class Takes(Challenges, Protocol):
    """What of a session a departure needs."""

    async def deregister(self, departure: Departure) -> str:
        """Say that this agent leaves; return the status, empty from a server that cannot be told."""


class Connect(Protocol):
    """Opens sessions."""

    def __call__(self, route: Route, identity: Identity | None) -> AbstractAsyncContextManager[Takes]:
        """Open one; without an identity, no leaf is presented."""


async def deregister(connect: Connect, route: Route, keys: KeyPair, agent_id: str) -> Farewell:
    """Say goodbye.

    Raises:
        EnrolmentRefusedError: the server said no.
        UnreachableError: it did not answer, or in a way that this agent does not know; nothing is certain.
    """
    async with connect(route, None) as session:
        proof = await Prover(keys).prove_departure(session, agent_id)
        if proof is None:
            return Farewell.UNSUPPORTED
        status = await session.deregister(Departure(keys.public_pem, agent_id, proof))
    try:
        return Farewell(status)
    except ValueError:
        raise UnreachableError(f"the server answered {status!r}, which this agent does not know") from None
