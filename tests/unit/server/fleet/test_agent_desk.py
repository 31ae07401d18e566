"""Which agent an operator means, and what a decision does to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from contract.values import APPLICATION, create_token, new_agent
from ct_ops_server.fleet.agents import (
    AgentAmbiguousError,
    AgentDesk,
    AgentNotFoundError,
    StatusConflictError,
)
from ct_ops_server.fleet.model import ENROLLED_AFTER_BACKUP, AgentStatus, StatusChange
from fakes.memory_store import MemoryStore

NOW = datetime(2030, 1, 2, tzinfo=UTC)
ACTIVE, PENDING, REVOKED = AgentStatus.ACTIVE, AgentStatus.PENDING, AgentStatus.REVOKED


def never_hinted(topic: str) -> None:
    """Fail: nothing was to be decided."""
    raise AssertionError(topic)


async def fleet(**statuses: AgentStatus) -> MemoryStore:
    """Return a store with these agents, all of one hostname."""
    store = MemoryStore(lambda: NOW)
    token = await create_token(store)
    for agent_id, status in statuses.items():
        application = replace(APPLICATION, key_id=f"key-{agent_id}", hostname="same-name")
        new = new_agent(agent_id, status=status, application=application, token_id=token)
        await store.admit(new, leaf=None)
    return store


async def decide(decision: str, status: AgentStatus) -> tuple[AgentStatus, list[tuple[str, str]]]:
    """Return the status after a decision, and whose connections are to end, and why."""
    store, hints = await fleet(a1=status), list[str]()
    desk = AgentDesk(store, hint=hints.append)
    after = await getattr(desk, decision)("a1", actor="somebody", reason="because")
    assert ["endings"] == hints
    return after.status, [(ending.agent_id, ending.reason) for ending in await store.endings_after(0)]


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
    store = await fleet(a1=status)
    with pytest.raises(StatusConflictError, match=f"cannot {decision} same-name"):
        await getattr(AgentDesk(store, hint=never_hinted), decision)("a1", actor="somebody")

    assert (status, 0) == (await store.agent_status("a1"), await store.last_ending())
    assert 1 == len(await store.status_history("a1"))


async def test_a_selector_must_mean_exactly_one_agent() -> None:
    """None and two are told apart, and two are named."""
    desk = AgentDesk(await fleet(a1=ACTIVE, a2=PENDING), hint=never_hinted)
    with pytest.raises(AgentNotFoundError, match="'b'"):
        await desk.find("b")
    with pytest.raises(AgentAmbiguousError, match=r"a1 .*a2 .*use an id") as caught:
        await desk.find("a")

    assert ["a1", "a2"] == [agent.id for agent in caught.value.candidates]


async def test_who_decided_and_why_is_kept() -> None:
    """The history carries actor and reason."""
    desk = AgentDesk(await fleet(a1=PENDING), hint=list[str]().append)
    await desk.revoke("a1", actor="somebody", reason="because")
    latest = (await desk.history("a1"))[-1]

    assert StatusChange(NOW, REVOKED, "somebody", "because") == latest


async def test_a_deleted_agent_leaves_who_did_it_and_its_history() -> None:
    """Nobody can make an agent disappear without a trace; its connections end."""
    store, hints = await fleet(a1=ACTIVE), list[str]()
    desk = AgentDesk(store, hint=hints.append)
    gone = await desk.delete("a1", actor="somebody", reason="scrapped")
    (left,) = await desk.deleted()

    assert ("a1", ["endings"]) == (gone.id, hints)
    assert ("a1", "somebody", "scrapped", ACTIVE) == (left.id, left.actor, left.reason, left.status)
    assert [ACTIVE] == [change.status for change in left.history]
    assert ["unknown_agent"] == [ending.reason for ending in await store.endings_after(0)]
    with pytest.raises(AgentNotFoundError):
        await desk.delete("a1", actor="somebody")


async def test_a_hostname_that_is_not_there_is_guessed() -> None:
    """A typo is answered with what is like it; anything else with where to look."""
    desk = AgentDesk(await fleet(a1=ACTIVE), hint=never_hinted)

    with pytest.raises(AgentNotFoundError, match="did you mean same-name"):
        await desk.find("smae-name")
    with pytest.raises(AgentNotFoundError, match="see: ct-ops-server agent list"):
        await desk.find("zzzzzzzz")


async def test_all_who_were_enrolled_after_the_backup_are_approved_at_once_and_nobody_else() -> None:
    """Others who wait have evidence against them, or none for them."""
    store = MemoryStore(lambda: NOW)
    token = await create_token(store)
    for agent_id, evidence in (("r1", ENROLLED_AFTER_BACKUP), ("r2", ENROLLED_AFTER_BACKUP), ("w", "twin")):
        application = replace(APPLICATION, key_id=f"key-{agent_id}", hostname=agent_id)
        new = new_agent(agent_id, status=PENDING, application=application, token_id=token)
        await store.admit(replace(new, evidence=evidence), leaf=None)
    hinted: list[str] = []
    desk = AgentDesk(store, hint=hinted.append)
    approved = await desk.approve_restored(actor="alice")

    assert ["r1", "r2"] == sorted(agent.id for agent in approved)
    assert PENDING is (await desk.find("w")).status
    assert [] == await desk.approve_restored(actor="alice")
    assert hinted
