"""What ``fleet.ports.EndingStore`` promises: whose connections must end, in order and without holes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from contract.values import StoreUnderTest, enrol
from ct_ops_server.fleet.model import AgentStatus

PENDING = frozenset({AgentStatus.PENDING})
EITHER = frozenset({AgentStatus.PENDING, AgentStatus.ACTIVE})


async def change(
    store: StoreUnderTest, agent_id: str, to: AgentStatus, allowed: frozenset[AgentStatus] = EITHER
) -> None:
    await store.agents.change_status(agent_id, allowed_from=allowed, to=to, actor="ada", reason="")


async def test_a_store_without_decisions_has_no_endings(store: StoreUnderTest) -> None:
    """Numbers begin with one."""
    assert 0 == await store.endings.last_ending()
    assert [] == await store.endings.endings_after(0)


async def test_putting_an_agent_out_ends_its_connections_and_letting_it_in_does_not(
    store: StoreUnderTest,
) -> None:
    """Revoked and rejected agents hear so; a deleted one is unknown; an approval disturbs nobody."""
    await enrol(store, "a", "b", "c")
    await enrol(store, "d", "e", status=AgentStatus.PENDING)
    await change(store, "a", AgentStatus.REVOKED)
    await change(store, "d", AgentStatus.REVOKED, PENDING)
    await change(store, "e", AgentStatus.ACTIVE, PENDING)
    await store.agents.delete_agent("b", actor="ada", reason="")
    found = await store.endings.endings_after(0)

    assert [(1, "a", "revoked"), (2, "d", "revoked"), (3, "b", "unknown_agent")] == [
        (ending.number, ending.agent_id, ending.reason) for ending in found
    ]
    assert all(timedelta(0) <= ending.age < timedelta(minutes=1) for ending in found)
    assert 3 == await store.endings.last_ending()


async def test_only_what_is_not_known_yet_is_returned(store: StoreUnderTest) -> None:
    """Whoever has seen two asks for what came after two."""
    await enrol(store, "a", "b", "c")
    for agent_id in "abc":
        await change(store, agent_id, AgentStatus.REVOKED)

    assert ["c"] == [ending.agent_id for ending in await store.endings.endings_after(2)]


@pytest.mark.parametrize("nothing", ["a decision that does not fit", "a deletion of nobody"])
async def test_what_changes_nothing_ends_nobody(store: StoreUnderTest, nothing: str) -> None:
    """No number is spent on it."""
    await enrol(store, "a")
    if nothing == "a deletion of nobody":
        assert not await store.agents.delete_agent("nobody", actor="ada", reason="")
    else:
        await change(store, "a", AgentStatus.REVOKED, PENDING)

    assert 0 == await store.endings.last_ending()


async def test_decisions_at_the_same_time_get_numbers_without_holes(store: StoreUnderTest) -> None:
    """However they meet, a reader who counts on can miss none."""
    names = [f"a{number:02}" for number in range(30)]
    await enrol(store, *names)
    await asyncio.gather(*(change(store, name, AgentStatus.REVOKED) for name in names))
    found = await store.endings.endings_after(0)

    assert list(range(1, 31)) == [ending.number for ending in found]
    assert set(names) == {ending.agent_id for ending in found}
