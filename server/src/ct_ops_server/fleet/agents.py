"""What operators do to agents: find them, and decide about them.

An agent is named by its id, a unique prefix of it, or a unique hostname. A decision that does not fit
the agent's state changes nothing and says so. Errors:

    AgentError
    ├── AgentNotFoundError    nothing matches
    ├── AgentAmbiguousError   more than one does; carries them
    └── StatusConflictError   the decision does not fit the agent's status
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from ct_ops_server.fleet.endings import TOPIC
from ct_ops_server.fleet.model import ENROLLED_AFTER_BACKUP, Agent, AgentStatus, DeletedAgent, StatusChange
from ct_ops_server.fleet.ports import AgentStore


@dataclass(frozen=True, slots=True)
class _Decision:
    verb: str
    allowed_from: frozenset[AgentStatus]
    to: AgentStatus


_WAITING = frozenset({AgentStatus.PENDING, AgentStatus.QUARANTINED})
_APPROVE = _Decision("approve", _WAITING, AgentStatus.ACTIVE)
_REJECT = _Decision("reject", frozenset({AgentStatus.PENDING}), AgentStatus.REVOKED)
_REVOKE = _Decision("revoke", _WAITING | {AgentStatus.ACTIVE}, AgentStatus.REVOKED)


_SUGGESTED = 3


class AgentError(Exception):
    """A request about an agent that cannot be done. ``str()`` is a sentence for the operator."""


class AgentNotFoundError(AgentError):
    """Nothing matches the selector."""

    def __init__(self, selector: str, hostnames: Collection[str] = ()) -> None:
        like = get_close_matches(selector, sorted(set(hostnames)), _SUGGESTED)
        advice = f"did you mean {' or '.join(like)}?" if like else "see: ct-ops-server agent list"
        super().__init__(f"no agent has the id, id prefix or hostname {selector!r}; {advice}")


class AgentAmbiguousError(AgentError):
    """The selector names more than one agent."""

    def __init__(self, selector: str, candidates: Sequence[Agent]) -> None:
        names = ", ".join(f"{agent.id} ({agent.hostname}, {agent.status})" for agent in candidates[:5])
        super().__init__(f"{selector!r} names more than one agent: {names}; use an id")
        self.candidates = tuple(candidates)


class StatusConflictError(AgentError):
    """The agent's status does not allow the decision."""


class AgentDesk:
    """Where operators look agents up and decide about them."""

    def __init__(self, store: AgentStore, *, hint: Callable[[str], None]) -> None:
        """Prepare the desk; ``hint`` tells the push bus of this process what was decided."""
        self._store = store
        self._hint = hint

    async def list(self, status: AgentStatus | None = None) -> Sequence[Agent]:
        """Return agents by hostname."""
        return await self._store.list_agents(status=status)

    async def find(self, selector: str) -> Agent:
        """Return the one agent that is meant.

        Raises:
            AgentNotFoundError, AgentAmbiguousError: it is not exactly one.
        """
        found = await self._store.find_agents(selector)
        if not found:
            raise AgentNotFoundError(selector, [agent.hostname for agent in await self._store.list_agents()])
        if len(found) > 1:
            raise AgentAmbiguousError(selector, found)
        return found[0]

    async def history(self, agent_id: str) -> Sequence[StatusChange]:
        """Return an agent's status changes, oldest first."""
        return await self._store.status_history(agent_id)

    async def approve(self, selector: str, *, actor: str, reason: str = "") -> Agent:
        """Let a pending agent in; or one in quarantine, whose copy is gone."""
        return await self._decide(selector, _APPROVE, actor=actor, reason=reason)

    async def approve_restored(self, *, actor: str, reason: str = "") -> Sequence[Agent]:
        """Let in every agent that waits because it was enrolled after the backup; return those that were let in."""
        waiting = await self._store.list_agents(status=AgentStatus.PENDING)
        restored = [agent for agent in waiting if agent.evidence == ENROLLED_AFTER_BACKUP]
        for agent in restored:
            await self._store.change_status(
                agent.id, allowed_from=_APPROVE.allowed_from, to=_APPROVE.to, actor=actor, reason=reason
            )
        self._hint(TOPIC)
        return [await self.find(agent.id) for agent in restored]

    async def reject(self, selector: str, *, actor: str, reason: str = "") -> Agent:
        """Refuse a pending agent for good: its key is revoked before it was ever used."""
        return await self._decide(selector, _REJECT, actor=actor, reason=reason)

    async def revoke(self, selector: str, *, actor: str, reason: str = "") -> Agent:
        """Refuse an agent for good, and end its connections now."""
        return await self._decide(selector, _REVOKE, actor=actor, reason=reason)

    async def delete(self, selector: str, *, actor: str, reason: str = "") -> Agent:
        """Forget an agent; return it as it was.

        Its host may enrol again with an enrolment token, unless the agent was revoked before: the key
        of a revoked agent stays barred.
        """
        agent = await self.find(selector)
        if not await self._store.delete_agent(agent.id, actor=actor, reason=reason):
            raise AgentNotFoundError(selector)
        self._hint(TOPIC)
        return agent

    async def deleted(self) -> Sequence[DeletedAgent]:
        """Return what is kept of deleted agents, youngest deletion first."""
        return await self._store.deleted_agents()

    async def _decide(self, selector: str, decision: _Decision, *, actor: str, reason: str) -> Agent:
        agent = await self.find(selector)
        found = await self._store.change_status(
            agent.id, allowed_from=decision.allowed_from, to=decision.to, actor=actor, reason=reason
        )
        if found is None:
            raise AgentNotFoundError(selector)
        if found not in decision.allowed_from:
            raise StatusConflictError(f"cannot {decision.verb} {agent.hostname} ({agent.id}): it is {found}")
        self._hint(TOPIC)
        return await self.find(agent.id)
