"""What the fleet's flows need from the outside, as protocols.

``store.streams``, ``store.presence``, ``store.agents`` and ``store.endings`` implement the stores on SQLite
and PostgreSQL, ``tests/fakes`` in memory; all pass the same contract suite. ``edge.callers`` implements the
last.

Errors that every store method may raise:

    StoreError
    ├── StoreUnavailable   the database does not answer: the caller may try again later
    └── WriteRefused       this one write cannot be stored; it was taken out of its group
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from ct_ops_server.fleet.model import (
    Agent,
    AgentStatus,
    DeletedAgent,
    Ending,
    HeartbeatWrite,
    StatusChange,
    StreamClosing,
    StreamOpened,
    StreamOpening,
    StreamRefused,
)


class StoreError(Exception):
    """The store did not do what it was asked."""


class StoreUnavailableError(StoreError):
    """The database does not answer. Nothing was stored; the same call may succeed later."""


class WriteRefusedError(StoreError):
    """The database refuses this very write, also alone. Repeating it is useless."""


class StreamStore(Protocol):
    """The writes of heartbeat streams. Each returns after its transaction was committed (durable)."""

    async def open_stream(self, opening: StreamOpening) -> StreamOpened | StreamRefused:
        """Raise the agent's generation, mark it online on this worker; only while it is active."""

    async def record_heartbeat(self, write: HeartbeatWrite, *, patience_s: float = 0.0) -> bool:
        """Store a frame as the latest. False: the generation is no longer current, or not active.

        It may wait ``patience_s`` for others to share its commit with.
        """

    async def close_stream(self, closing: StreamClosing) -> None:
        """Mark the agent offline, unless a younger stream has taken over."""

    async def agent_status(self, agent_id: str) -> AgentStatus | None:
        """Return the status in the agent's row now; None when there is no such agent."""


class PresenceStore(Protocol):
    """Leases of workers, by the database's clock only (rule 18)."""

    async def renew_lease(self, worker_id: str) -> None:
        """Insert or renew this worker's lease."""

    async def drop_lease(self, worker_id: str) -> None:
        """End this worker's lease and mark its agents offline: an orderly shutdown."""

    async def sweep(self, *, lease_timeout: timedelta) -> list[str]:
        """Mark offline every agent whose worker's lease is older; return their ids, forget dead workers."""


class AgentStore(Protocol):
    """What operators read and decide."""

    async def list_agents(self, *, status: AgentStatus | None = None) -> Sequence[Agent]:
        """All agents, by hostname then id; without vitals' lists (``facts`` is None)."""

    async def find_agents(self, selector: str) -> Sequence[Agent]:
        """Agents whose id is ``selector``, else whose id starts with it, else with exactly this hostname.

        Complete (with ``facts``). At most a few; more than one means the selector is ambiguous.
        """

    async def hosts_starting_with(self, prefix: str) -> Sequence[tuple[str, str]]:
        """Id and hostname of every agent whose hostname starts with these very characters, by hostname."""

    async def count_by_status(self) -> Mapping[AgentStatus, int]:
        """Return how many agents have each status; one that none has may be missing."""

    async def change_status(
        self, agent_id: str, *, allowed_from: frozenset[AgentStatus], to: AgentStatus, actor: str, reason: str
    ) -> AgentStatus | None:
        """Change the status in one statement and append to the history.

        Leaving ``active`` also raises the generation and marks the agent offline, so that no write of
        an open stream can follow, and appends an ending. Returns the status found before (unchanged when it was not in
        ``allowed_from``), or None when there is no such agent.
        """

    async def delete_agent(self, agent_id: str, *, actor: str, reason: str) -> bool:
        """Delete the agent and what belongs to it, leaving a tombstone; False when there is none."""

    async def deleted_agents(self) -> Sequence[DeletedAgent]:
        """Youngest deletion first."""

    async def status_history(self, agent_id: str) -> Sequence[StatusChange]:
        """Oldest first."""


class EndingStore(Protocol):
    """Whose connections must end: appended by decisions, read by every process."""

    async def last_ending(self) -> int:
        """Return the number of the latest ending, 0 when there never was one."""

    async def endings_after(self, number: int) -> Sequence[Ending]:
        """Return the later ones that are still kept, in the order of their numbers."""


class LiveAgents(Protocol):
    """The connections of this process."""

    def end(self, agent_id: str, reason: str) -> int:
        """End every connection of this agent, telling it ``reason``; return how many there were."""

    def end_all(self, reason: str) -> None:
        """End every connection that speaks for an agent, telling it ``reason``."""
