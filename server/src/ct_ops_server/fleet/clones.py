"""Agents in quarantine, with the evidence: what ``clones list`` shows.

A quarantined agent is served on no host until an operator has decided: ``agent approve`` when the copy is
gone, ``agent split`` when both hosts shall stay, ``agent revoke`` when the key was stolen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ct_ops_server.fleet.model import Agent, AgentStatus
from ct_ops_server.fleet.ports import AgentStore
from ct_ops_server.fleet.sides import SideLog


@dataclass(frozen=True, slots=True)
class Clone:
    """An agent in quarantine."""

    agent: Agent
    log: SideLog


class CloneStore(Protocol):
    """Where the sides of agents are kept; ``store.clones`` and ``tests/fakes`` implement it."""

    async def sides(self, agent_id: str) -> SideLog:
        """Return who has spoken as an agent; nobody of an agent that there is not."""

    async def logs_of_quarantined(self) -> Sequence[tuple[str, SideLog]]:
        """Return the ids of agents in quarantine, with their sides; the latest first."""


class CloneDesk:
    """Where operators look at clones."""

    def __init__(self, store: CloneStore, agents: AgentStore) -> None:
        self._store = store
        self._agents = agents

    async def list(self) -> Sequence[Clone]:
        """Return the agents in quarantine, the latest first."""
        agents = {each.id: each for each in await self._agents.list_agents(status=AgentStatus.QUARANTINED)}
        logs = await self._store.logs_of_quarantined()
        return [Clone(agents[agent_id], log) for agent_id, log in logs if agent_id in agents]
