"""A host that leaves: its agent is revoked, as an operator would do it.

It takes itself off and erases nothing: samples, results and history stay until an operator deletes the agent. So whoever
breaks into a host can end its service, which he can anyway, but cannot remove what the server knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from ct_ops_server.enrolment.ports import EnrolmentStore
from ct_ops_server.fleet.decisions import THE_HOST_ITSELF
from ct_ops_server.fleet.endings import TOPIC
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.ports import AgentStore

ACTOR = THE_HOST_ITSELF
_REASON = "deregistered: the agent was taken off its host"
_MAY_LEAVE = frozenset({AgentStatus.PENDING, AgentStatus.ACTIVE})


class Departure(StrEnum):
    """How it went: the value is what the wire says."""

    DEREGISTERED = "deregistered"
    REVOKED = "revoked"
    """It was revoked before."""
    UNKNOWN = "unknown"
    """No agent has this key: it was deleted, or never admitted here."""


class NotThisAgentsKeyError(Exception):
    """The key is another agent's than the one that is to leave."""


class QuarantinedError(Exception):
    """Two hosts hold the key: neither of them may take the other off."""


class Departures:
    """Lets agents leave that have proven their key."""

    def __init__(self, enrolled: EnrolmentStore, agents: AgentStore, *, hint: Callable[[str], None]) -> None:
        """Prepare; ``hint`` tells the push bus of this process what was decided."""
        self._enrolled = enrolled
        self._agents = agents
        self._hint = hint

    async def leave(self, agent_id: str, key_id: str) -> Departure:
        """Revoke the agent that holds this key, which was proven.

        Raises:
            NotThisAgentsKeyError: that is another agent.
            QuarantinedError: an operator has to say whose agent it is.
            StoreError: the store did not answer; nothing was changed.
        """
        agent = await self._enrolled.find_agent(key_id)
        if agent is None:
            return Departure.UNKNOWN
        if agent.id != agent_id:
            raise NotThisAgentsKeyError
        found = await self._agents.change_status(
            agent.id, allowed_from=_MAY_LEAVE, to=AgentStatus.REVOKED, actor=ACTOR, reason=_REASON
        )
        if found is None:
            return Departure.UNKNOWN
        if found is AgentStatus.QUARANTINED:
            raise QuarantinedError
        if found not in _MAY_LEAVE:
            return Departure.REVOKED
        self._hint(TOPIC)
        return Departure.DEREGISTERED
