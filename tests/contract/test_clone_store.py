"""What ``fleet.clones.CloneStore`` promises, and what opening a stream does about clones (rule 19)."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from contract.values import StoreUnderTest, beat, enrol
from ct_ops_server.fleet.model import AgentStatus, StreamOpened, StreamOpening, StreamRefused
from ct_ops_server.fleet.sides import Side

ORIGINAL = Side("192.0.2.1", "p-a", "o-1", "boot-a", "machine-a", "web-1", ("52:54:00:00:00:0a",))
COPY = replace(ORIGINAL, address="192.0.2.2", process_id="p-b", boot_id="boot-b")


async def open_as(store: StoreUnderTest, side: Side, agent_id: str = "a") -> StreamOpened | StreamRefused:
    """Open a stream as a side of an agent."""
    opening = StreamOpening(agent_id, f"key-{agent_id}", "worker-1", timedelta(seconds=30), side)
    return await store.streams.open_stream(opening)


async def clone(store: StoreUnderTest, agent_id: str = "a") -> list[StreamOpened | StreamRefused]:
    """Have two sides take the stream from each other until that is noticed."""
    return [await open_as(store, side, agent_id) for side in (ORIGINAL, COPY, ORIGINAL, COPY)]


async def test_two_live_process_ids_are_quarantined_with_evidence(store: StoreUnderTest) -> None:
    """The opening that proves it is refused, and both sides are on record."""
    await enrol(store, "a")
    await store.presence.renew_lease("worker-1")
    answers = await clone(store)
    agent = await store.agent("a")
    log = await store.clones.sides("a")

    assert [StreamOpened(1), StreamOpened(2), StreamOpened(3)] == answers[:3]
    assert StreamRefused(AgentStatus.QUARANTINED) == answers[3]
    assert (AgentStatus.QUARANTINED, False) == (agent.status, agent.online)
    assert [ORIGINAL, COPY] == [each.side for each in log.seen]
    assert "two_processes" == log.why
    assert ["a"] == [agent_id for agent_id, _ in await store.clones.logs_of_quarantined()]


async def test_a_quarantine_is_a_decision_on_record(store: StoreUnderTest) -> None:
    """History says who decided it and why; every server is told to end the agent's connections."""
    await enrol(store, "a")
    before = await store.endings.last_ending()
    await clone(store)
    change = (await store.agents.status_history("a"))[-1]
    endings = await store.endings.endings_after(before)

    assert (AgentStatus.QUARANTINED, "clone detection") == (change.status, change.actor)
    assert "copied" in change.reason
    assert [("a", "quarantined")] == [(ending.agent_id, ending.reason) for ending in endings]


async def test_no_stream_of_a_clone_writes_after_its_quarantine(store: StoreUnderTest) -> None:
    """The generation is raised, as for every decision."""
    await enrol(store, "a")
    await clone(store)

    assert not await store.streams.record_heartbeat(beat("a", 3))


async def test_further_sides_of_a_clone_are_written_down(store: StoreUnderTest) -> None:
    """A third copy that shows up later is refused, and is on record."""
    await enrol(store, "a")
    await clone(store)
    third = replace(COPY, process_id="p-c", address="192.0.2.3")
    answer = await open_as(store, third)
    log = await store.clones.sides("a")

    assert StreamRefused(AgentStatus.QUARANTINED) == answer
    assert [ORIGINAL, COPY, third] == [each.side for each in log.seen]


async def test_whoever_has_another_key_is_no_side(store: StoreUnderTest) -> None:
    """Evidence comes from who holds the agent's key now."""
    await enrol(store, "a")
    await clone(store)
    stranger = replace(COPY, process_id="p-z")
    await store.streams.open_stream(StreamOpening("a", "key-of-before", "worker-1", None, stranger))

    assert 2 == len((await store.clones.sides("a")).seen)


async def test_others_that_open_in_the_same_group_are_not_hurt(store: StoreUnderTest) -> None:
    """A clone is quarantined alone."""
    await enrol(store, "a", "b")
    await clone(store)

    assert StreamOpened(1) == await open_as(store, ORIGINAL, "b")
    assert AgentStatus.ACTIVE is (await store.agent("b")).status


async def test_an_approved_clone_starts_with_a_clean_log(store: StoreUnderTest) -> None:
    """The copy is gone, so whoever speaks next is no suspect; should the copy come back, it is noticed again."""
    await enrol(store, "a")
    await clone(store)
    found = await store.agents.change_status(
        "a",
        allowed_from=frozenset({AgentStatus.QUARANTINED}),
        to=AgentStatus.ACTIVE,
        actor="ada",
        reason="the copy is destroyed",
    )
    again = await clone(store)

    assert found is AgentStatus.QUARANTINED
    assert isinstance(again[2], StreamOpened)
    assert StreamRefused(AgentStatus.QUARANTINED) == again[3]


async def test_an_opening_that_tells_nothing_is_no_evidence(store: StoreUnderTest) -> None:
    """Whoever does not say who it is has no side."""
    await enrol(store, "a")
    await store.streams.open_stream(StreamOpening("a", "key-a", "worker-1", None))

    assert () == (await store.clones.sides("a")).seen
