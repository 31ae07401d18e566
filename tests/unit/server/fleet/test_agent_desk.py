"""Which agent an operator means, and what a decision does to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from ct_ops_server.fleet.agents import (
    AgentAmbiguousError,
    AgentDesk,
    AgentNotFoundError,
    StatusConflictError,
)
from ct_ops_server.fleet.model import Agent, AgentStatus, StatusChange

NOW = datetime(2030, 1, 2, tzinfo=UTC)
ACTIVE, PENDING, REVOKED = AgentStatus.ACTIVE, AgentStatus.PENDING, AgentStatus.REVOKED


class Rows:
    """Agents in memory, changed as the store's contract says."""

    def __init__(self, **statuses: AgentStatus) -> None:
        self.statuses = statuses
        self.changes: list[StatusChange] = []

    def _agent(self, agent_id: str) -> Agent:
        return Agent(
            agent_id, "same-name", self.statuses[agent_id], online=False, last_seen_at=None,
            created_at=NOW, key_id="k", observed_address="192.0.2.1",
        )  # fmt: skip

    async def list_agents(self, *, status: AgentStatus | None = None) -> Sequence[Agent]:
        return [self._agent(one) for one, its in self.statuses.items() if status in {None, its}]

    async def find_agents(self, selector: str) -> Sequence[Agent]:
        return [self._agent(one) for one in self.statuses if one.startswith(selector)]

    async def change_status(
        self, agent_id: str, *, allowed_from: frozenset[AgentStatus], to: AgentStatus, actor: str, reason: str
    ) -> AgentStatus | None:
        before = self.statuses.get(agent_id)
        if before in allowed_from:
            self.statuses[agent_id] = to
            self.changes.append(StatusChange(NOW, to, actor, reason))
        return before

    async def status_history(self, agent_id: str) -> Sequence[StatusChange]:
        return self.changes if agent_id in self.statuses else []


class Live:
    """Connections of this process: writes down whose were ended, and why."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def end(self, agent_id: str, reason: str) -> int:
        self.ended.append((agent_id, reason))
        return 1


async def decide(decision: str, status: AgentStatus) -> tuple[AgentStatus, list[tuple[str, str]]]:
    """Return the status after a decision, and whose connections it ended."""
    live = Live()
    desk = AgentDesk(Rows(a1=status), live)
    after = await getattr(desk, decision)("a1", actor="somebody", reason="because")
    return after.status, live.ended


@pytest.mark.parametrize(
    ("decision", "status", "after", "ended"),
    [
        ("approve", PENDING, ACTIVE, []),
        ("reject", PENDING, REVOKED, [("a1", "revoked")]),
        ("revoke", PENDING, REVOKED, [("a1", "revoked")]),
        ("revoke", ACTIVE, REVOKED, [("a1", "revoked")]),
    ],
)
async def test_a_decision_changes_the_status_and_a_refusal_ends_the_connections(
    decision: str, status: AgentStatus, after: AgentStatus, ended: list[tuple[str, str]]
) -> None:
    """Approval disturbs nobody; rejection and revocation take effect at once."""
    assert (after, ended) == await decide(decision, status)


@pytest.mark.parametrize(
    ("decision", "status"),
    [("approve", ACTIVE), ("approve", REVOKED), ("reject", ACTIVE), ("reject", REVOKED), ("revoke", REVOKED)],
)
async def test_a_decision_that_does_not_fit_changes_nothing_and_ends_nobody(
    decision: str, status: AgentStatus
) -> None:
    """Above all, a revoked agent is not approved again by accident."""
    rows, live = Rows(a1=status), Live()
    with pytest.raises(StatusConflictError, match=f"cannot {decision} same-name"):
        await getattr(AgentDesk(rows, live), decision)("a1", actor="somebody")

    assert (status, [], []) == (rows.statuses["a1"], rows.changes, live.ended)


async def test_a_selector_must_mean_exactly_one_agent() -> None:
    """None and two are told apart, and two are named."""
    desk = AgentDesk(Rows(a1=ACTIVE, a2=PENDING), Live())
    with pytest.raises(AgentNotFoundError, match="'b'"):
        await desk.find("b")
    with pytest.raises(AgentAmbiguousError, match=r"a1 .*a2 .*use an id") as caught:
        await desk.find("a")

    assert ["a1", "a2"] == [agent.id for agent in caught.value.candidates]


async def test_who_decided_and_why_is_kept() -> None:
    """The history carries actor and reason."""
    desk = AgentDesk(Rows(a1=PENDING), Live())
    await desk.revoke("a1", actor="somebody", reason="because")

    assert [StatusChange(NOW, REVOKED, "somebody", "because")] == await desk.history("a1")
