"""What operators decide about clones, and what they are told when it cannot be done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from contract.values import create_token, new_agent
from ct_ops_server.fleet.agents import AgentDesk
from ct_ops_server.fleet.clones import (
    CloneDesk,
    NotQuarantinedError,
    SideUnclearError,
    SuccessionError,
)
from ct_ops_server.fleet.model import AgentStatus, StreamOpening
from ct_ops_server.fleet.sides import Side
from fakes.memory_store import MemoryStore

NOW = datetime(2030, 1, 2, tzinfo=UTC)
ORIGINAL = Side("192.0.2.1", "p-a", "o-1", "boot-a", "machine-a", "web-1", ("52:54:00:00:00:0a",))
COPY = replace(
    ORIGINAL,
    address="192.0.2.2",
    process_id="p-b",
    boot_id="boot-b",
    hostname="web-2",
    macs=("52:54:00:00:00:0b",),
)


class Office:
    """A desk over a store in memory, and the hints that it gave."""

    def __init__(self) -> None:
        self.store = MemoryStore(lambda: NOW)
        self.hints = list[str]()
        agents = AgentDesk(self.store, hint=self.hints.append)
        self.desk = CloneDesk(self.store, self.store, agents, hint=self.hints.append)

    async def enrol(self, *agent_ids: str) -> None:
        """Admit agents."""
        token = await create_token(self.store)
        for agent_id in agent_ids:
            await self.store.admit(new_agent(agent_id, token_id=token), leaf=None)

    async def clone(self, agent_id: str) -> None:
        """Have two sides take the stream from each other until that is noticed."""
        for side in (ORIGINAL, COPY, ORIGINAL, COPY):
            opening = StreamOpening(agent_id, f"key-{agent_id}", "worker-1", timedelta(seconds=30), side)
            await self.store.open_stream(opening)


@pytest.fixture
async def office() -> Office:
    """An office with a clone "a" and a healthy agent "b"."""
    office = Office()
    await office.enrol("a", "b")
    await office.clone("a")
    return office


async def test_clones_are_listed_with_their_sides(office: Office) -> None:
    """A healthy agent is none."""
    (clone,) = await office.desk.list()

    assert ("a", [ORIGINAL, COPY]) == (clone.agent.id, [each.side for each in clone.log.seen])


async def test_without_a_word_the_side_that_was_there_first_keeps_the_agent(office: Office) -> None:
    """And every process is told."""
    done = await office.desk.split("a", keep="", actor="ada", reason="")

    assert (AgentStatus.ACTIVE, ORIGINAL, (COPY,)) == (done.agent.status, done.kept, done.others)
    assert ["endings"] == office.hints


@pytest.mark.parametrize("keep", ["192.0.2.2", "web-2", "boot-b", "p-b"])
async def test_the_side_that_is_named_keeps_the_agent(office: Office, keep: str) -> None:
    """By address, hostname, boot or process."""
    done = await office.desk.split("a", keep=keep, actor="ada", reason="")

    assert COPY == done.kept


@pytest.mark.parametrize("keep", ["203.0.113.9", "machine-a", "p-"])
async def test_a_name_of_no_side_or_of_several_decides_nothing(office: Office, keep: str) -> None:
    """The sentence lists what can be said."""
    with pytest.raises(SideUnclearError, match=r"--keep .*192\.0\.2\.1 boot boot-a"):
        await office.desk.split("a", keep=keep, actor="ada", reason="")

    assert not office.hints


async def test_a_healthy_agent_is_not_split(office: Office) -> None:
    """The next step is in the sentence."""
    with pytest.raises(NotQuarantinedError, match="clones list"):
        await office.desk.split("b", keep="", actor="ada", reason="")


async def test_an_agent_follows_no_other_that_is_itself_or_cannot(office: Office) -> None:
    """Nor does one in quarantine take another one's place before it is split."""
    with pytest.raises(SuccessionError, match="name two"):
        await office.desk.merge("b", "b", actor="ada", reason="")
    with pytest.raises(SuccessionError, match="split first"):
        await office.desk.replace("b", "a", actor="ada", reason="")

    assert not office.hints


async def test_a_quarantined_agent_is_approved_when_its_copy_is_gone(office: Office) -> None:
    """Its evidence is cleared: whoever speaks next is no suspect."""
    desk = AgentDesk(office.store, hint=office.hints.append)
    approved = await desk.approve("a", actor="ada", reason="the copy is destroyed")

    assert AgentStatus.ACTIVE is approved.status
    assert () == (await office.store.sides("a")).seen
