"""Agents in quarantine, with the evidence: what ``clones list`` shows.

A quarantined agent is served on no host until an operator has decided: ``agent approve`` when the copy is
gone, ``agent split`` when both hosts shall stay, ``agent revoke`` when the key was stolen. Two more decisions
are about the opposite, two agents of one host: ``agent merge`` and ``agent replace``.

Errors, beside those of ``fleet.agents``:

    AgentError
    ├── NotQuarantinedError   there is nothing to split
    ├── SideUnclearError      ``--keep`` names no side, or sides of several machines
    └── SuccessionError       two agents that cannot follow one another
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ct_ops_server.fleet.agents import AgentDesk, AgentError
from ct_ops_server.fleet.endings import TOPIC
from ct_ops_server.fleet.model import Agent, AgentStatus
from ct_ops_server.fleet.sides import (
    Side,
    SideLog,
    Sighting,
    is_alive,
    is_one_host,
    is_same_machine,
    likely_original,
    rivals_of,
)


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


class Outcome(StrEnum):
    """How a decision went."""

    DONE = "done"
    GONE = "gone"
    """There is no such agent any more."""
    CHANGED = "changed"
    """An agent's status does not allow it."""


class SuccessionStore(Protocol):
    """Where decisions about two hosts of one agent, or two agents of one host, are carried out."""

    async def split(self, agent_id: str, log: SideLog, place: int, *, actor: str, reason: str) -> Outcome:
        """Let one side of an agent in quarantine go on alone; its key is barred for whoever else holds it."""

    async def merge(self, kept: str, other: str, *, actor: str, reason: str) -> Outcome:
        """Record that two agents are one host: the other one is revoked, and points to the one that is kept."""

    async def replace(self, old: str, new: str, *, actor: str, reason: str) -> Outcome:
        """Let the host of ``new`` be agent ``old`` from now on: its key follows the old one, which is barred."""


class NotQuarantinedError(AgentError):
    """Only an agent that two hosts speak as can be split."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(
            f"{agent.hostname} ({agent.id}) is {agent.status}: only an agent in quarantine is split; "
            "see: ct-ops-server clones list"
        )


class SideUnclearError(AgentError):
    """Nobody can tell which side is to be kept."""

    def __init__(self, keep: str, sides: Sequence[Side]) -> None:
        known = "; ".join(f"{side.address} boot {side.boot_id or '-'}" for side in sides[:5])
        what = f"{keep!r} names no side, or several" if keep else "nothing tells which side is the original"
        super().__init__(f"{what}; use --keep with the address or boot id of one of: {known or 'none known'}")


class SuccessionError(AgentError):
    """One of two agents cannot follow the other."""


@dataclass(frozen=True, slots=True)
class Split:
    """What became of a split."""

    agent: Agent
    kept: Side
    others: tuple[Side, ...]


class CloneDesk:
    """Where operators look at clones and decide about them."""

    def __init__(
        self,
        store: CloneStore,
        successions: SuccessionStore,
        agents: AgentDesk,
        *,
        hint: Callable[[str], None],
    ) -> None:
        """Prepare the desk; ``hint`` tells the push bus of this process what was decided."""
        self._store = store
        self._successions = successions
        self._agents = agents
        self._hint = hint

    async def list(self) -> Sequence[Clone]:
        """Return the agents in quarantine, the latest first."""
        agents = {each.id: each for each in await self._agents.list(AgentStatus.QUARANTINED)}
        logs = await self._store.logs_of_quarantined()
        return [Clone(agents[agent_id], log) for agent_id, log in logs if agent_id in agents]

    async def split(self, selector: str, *, keep: str, actor: str, reason: str) -> Split:
        """Let one side keep the agent; the others need keys of their own.

        Args:
            selector: the agent.
            keep: address, hostname, or the beginning of the boot, machine or process id of the side that keeps
                the agent; empty: the one that was there before all others.
            actor: who decides.
            reason: why.

        Raises:
            NotQuarantinedError, SideUnclearError: there is nothing to split, or nobody can tell the sides apart.
            AgentError: it is not exactly one agent.
        """
        agent = await self._agents.find(selector)
        if agent.status is not AgentStatus.QUARANTINED:
            raise NotQuarantinedError(agent)
        log = await self._store.sides(agent.id)
        place = side_to_keep(log, keep)
        outcome = await self._successions.split(agent.id, log, place, actor=actor, reason=reason)
        after = await self._agents.find(agent.id)
        if outcome is not Outcome.DONE:
            raise NotQuarantinedError(after)
        self._hint(TOPIC)
        return Split(after, log.seen[place].side, rivals_of(log, place))

    async def merge(self, kept: str, other: str, *, actor: str, reason: str) -> Agent:
        """Record that two agents are one host; return the one that is kept.

        Raises:
            SuccessionError: they are one agent already, or one of them was revoked.
            AgentError: each of them is not exactly one agent.
        """
        first, second = await self._two(kept, other)
        outcome = await self._successions.merge(first.id, second.id, actor=actor, reason=reason)
        return await self._succeeded(outcome, first, second)

    async def replace(self, old: str, new: str, *, actor: str, reason: str) -> Agent:
        """Let new hardware take an agent's place; return that agent.

        Raises:
            SuccessionError: they are one agent already, or the status of one of them does not allow it.
            AgentError: each of them is not exactly one agent.
        """
        first, second = await self._two(old, new)
        outcome = await self._successions.replace(first.id, second.id, actor=actor, reason=reason)
        return await self._succeeded(outcome, first, second)

    async def _two(self, one: str, other: str) -> tuple[Agent, Agent]:
        first, second = await self._agents.find(one), await self._agents.find(other)
        if first.id == second.id:
            raise SuccessionError(f"{one!r} and {other!r} are the same agent, {first.id}: name two")
        return first, second

    async def _succeeded(self, outcome: Outcome, first: Agent, second: Agent) -> Agent:
        if outcome is not Outcome.DONE:
            states = ", ".join(f"{each.hostname} ({each.id}) is {each.status}" for each in (first, second))
            raise SuccessionError(
                f"{states}: a revoked agent follows nobody, and one in quarantine is split first"
            )
        self._hint(TOPIC)
        return await self._agents.find(first.id)


def side_to_keep(log: SideLog, keep: str) -> int:
    """Return the place of the side that is meant.

    Raises:
        SideUnclearError: it is none, or several that are not one machine.
    """
    original = likely_original(log)
    if not keep and original is not None:
        return original
    meant = [place for place, each in enumerate(log.seen) if keep and _is_meant(each.side, keep)]
    # Of one host there may be earlier processes: who is alive is meant.
    found = [place for place in meant if is_alive(log, log.seen[place])] or meant
    first = log.seen[found[0]] if found else None
    if first is None or not all(_are_meant_as_one(first, log.seen[place]) for place in found):
        raise SideUnclearError(keep, [each.side for each in log.seen])
    return max(found, key=lambda place: log.seen[place].last_ms)


def _are_meant_as_one(one: Sighting, other: Sighting) -> bool:
    is_one_boot = one.side.boot_id == other.side.boot_id
    return is_one_host(one, other) or (is_one_boot and is_same_machine(one.side, other.side) is not False)


def _is_meant(side: Side, keep: str) -> bool:
    if keep in {side.address, side.hostname}:
        return True
    return any(each.startswith(keep) for each in (side.boot_id, side.machine_id, side.process_id) if each)
