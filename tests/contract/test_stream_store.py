"""What ``fleet.ports.StreamStore`` promises: generations fence every write of a stream (rule 18)."""

from __future__ import annotations

import asyncio
from dataclasses import replace as replace_dataclass
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from contract.values import FACTS, VITALS, StoreUnderTest, beat, enrol, open_stream
from ct_ops_server.fleet.model import AgentStatus, StreamClosing, StreamOpening, StreamRefused


async def revoke(store: StoreUnderTest, agent_id: str) -> None:
    await store.agents.change_status(
        agent_id,
        allowed_from=frozenset({AgentStatus.ACTIVE}),
        to=AgentStatus.REVOKED,
        actor="ada",
        reason="sold",
    )


async def test_every_stream_has_a_higher_generation_than_the_one_before(store: StoreUnderTest) -> None:
    """Opening a stream raises the agent's generation."""
    await enrol(store, "a")

    assert [1, 2, 3] == [await open_stream(store, "a") for _ in range(3)]


async def test_an_open_stream_makes_its_agent_online_and_seen(store: StoreUnderTest) -> None:
    """Opening a stream is a sign of life."""
    await enrol(store, "a")
    await store.presence.renew_lease("worker-1")
    await open_stream(store, "a")
    agent = await store.agent("a")

    assert agent.online
    assert agent.last_seen_at is not None
    assert abs(datetime.now(UTC) - agent.last_seen_at) < timedelta(minutes=1)


@pytest.mark.parametrize("status", [AgentStatus.PENDING, AgentStatus.REVOKED])
async def test_only_an_active_agent_opens_a_stream(store: StoreUnderTest, status: AgentStatus) -> None:
    """A refusal names the status that the row has."""
    await enrol(store, "a", status=status)
    answer = await store.streams.open_stream(StreamOpening("a", "key-a", "worker-1", None))

    assert StreamRefused(status) == answer
    assert not (await store.agent("a")).online


async def test_an_agent_that_does_not_exist_opens_no_stream(store: StoreUnderTest) -> None:
    """A refusal without a status says that there is no such agent."""
    answer = await store.streams.open_stream(StreamOpening("nobody", "key-nobody", "worker-1", None))

    assert StreamRefused(None) == answer


async def test_streams_that_open_together_get_their_own_answers(store: StoreUnderTest) -> None:
    """One group holds agents that may open a stream, must not, and do not exist."""
    await enrol(store, "active", "other")
    await enrol(store, "pending", status=AgentStatus.PENDING)
    names = ["other", "nobody", "pending", "active"]
    answers = await asyncio.gather(
        *(store.streams.open_stream(StreamOpening(name, f"key-{name}", "worker-1", None)) for name in names)
    )

    assert [1, None, AgentStatus.PENDING, 1] == [
        answer.status if isinstance(answer, StreamRefused) else answer.generation for answer in answers
    ]


async def test_a_heartbeat_is_read_back_as_it_was_written(store: StoreUnderTest) -> None:
    """Vitals and lists survive unchanged, sizes of 2^64 - 1 included."""
    await enrol(store, "a")
    generation = await open_stream(store, "a")
    stored = await store.streams.record_heartbeat(beat("a", generation, facts=FACTS))
    agent = await store.agent("a")

    assert stored
    assert (VITALS, FACTS) == (agent.vitals, agent.facts)


async def test_a_heartbeat_without_facts_keeps_those_of_the_one_before(store: StoreUnderTest) -> None:
    """Facts are written when they changed, so None is not "none left"."""
    await enrol(store, "a")
    generation = await open_stream(store, "a")
    await store.streams.record_heartbeat(beat("a", generation, facts=FACTS))
    warmer = replace(VITALS, cpu_percent=99.0)
    await store.streams.record_heartbeat(beat("a", generation, vitals=warmer))
    agent = await store.agent("a")

    assert (warmer, FACTS) == (agent.vitals, agent.facts)


async def test_facts_are_replaced_as_a_whole(store: StoreUnderTest) -> None:
    """A disk that is gone is not shown any more."""
    await enrol(store, "a")
    generation = await open_stream(store, "a")
    fewer = replace(FACTS, disks=[])
    for facts in (FACTS, fewer):
        await store.streams.record_heartbeat(beat("a", generation, facts=facts))

    assert fewer == (await store.agent("a")).facts


async def test_a_heartbeat_of_an_older_stream_is_fenced(store: StoreUnderTest) -> None:
    """Of two streams of one agent only the younger one writes."""
    await enrol(store, "a")
    old = await open_stream(store, "a")
    await open_stream(store, "a")
    stored = await store.streams.record_heartbeat(beat("a", old, facts=FACTS))
    agent = await store.agent("a")

    assert not stored
    assert (None, None) == (agent.vitals, agent.facts)


async def test_a_heartbeat_of_a_revoked_agent_is_fenced(store: StoreUnderTest) -> None:
    """A stream that is still open when its agent is revoked cannot bring it back."""
    await enrol(store, "a")
    generation = await open_stream(store, "a")
    await revoke(store, "a")
    stored = await store.streams.record_heartbeat(beat("a", generation))
    agent = await store.agent("a")

    assert not stored
    assert (AgentStatus.REVOKED, False, None) == (agent.status, agent.online, agent.vitals)


async def test_a_revoked_and_reinstated_agent_needs_a_new_stream(store: StoreUnderTest) -> None:
    """Revocation raises the generation: a stream from before stays fenced for good."""
    await enrol(store, "a")
    generation = await open_stream(store, "a")
    await revoke(store, "a")
    await store.agents.change_status(
        "a",
        allowed_from=frozenset({AgentStatus.REVOKED}),
        to=AgentStatus.ACTIVE,
        actor="ada",
        reason="found again",
    )

    assert not await store.streams.record_heartbeat(beat("a", generation))
    assert await open_stream(store, "a") > generation + 1


async def test_a_heartbeat_of_nobody_is_not_stored(store: StoreUnderTest) -> None:
    """An agent that was deleted meanwhile gets the same answer as one that was fenced."""
    assert not await store.streams.record_heartbeat(beat("nobody", 1, facts=FACTS))


async def test_the_end_of_a_stream_makes_its_agent_offline(store: StoreUnderTest) -> None:
    """Closing the current stream ends presence."""
    await enrol(store, "a")
    await store.presence.renew_lease("worker-1")
    generation = await open_stream(store, "a")
    await store.streams.close_stream(StreamClosing("a", generation))

    assert not (await store.agent("a")).online


async def test_the_late_close_of_an_older_stream_changes_nothing(store: StoreUnderTest) -> None:
    """A host that reconnected before its old stream was noticed dead stays online."""
    await enrol(store, "a")
    await store.presence.renew_lease("worker-1")
    old = await open_stream(store, "a")
    await open_stream(store, "a", "worker-2")
    await store.streams.close_stream(StreamClosing("a", old))

    assert (await store.agent("a")).online


async def test_two_frames_of_one_agent_at_once_are_stored_in_order(store: StoreUnderTest) -> None:
    """Frames sent in a burst do not disturb one another; the last one is the latest."""
    await enrol(store, "a")
    generation = await open_stream(store, "a")
    frames = [beat("a", generation, vitals=replace(VITALS, uptime_s=second)) for second in range(20)]
    stored = await asyncio.gather(*(store.streams.record_heartbeat(frame) for frame in frames))

    assert [True] * 20 == stored
    assert frames[-1].vitals == (await store.agent("a")).vitals


async def test_each_heartbeat_of_a_group_reaches_its_own_agent(store: StoreUnderTest) -> None:
    """No value of one agent ends up with another, whichever order they came in."""
    names = [f"a{number:03}" for number in range(60)]
    await enrol(store, *names)
    generations = {name: await open_stream(store, name) for name in names}
    frames = [
        beat(
            name,
            generations[name],
            vitals=replace(VITALS, uptime_s=number),
            facts=replace(FACTS, disks=[replace(FACTS.disks[0], device=name)]) if number % 2 else None,
        )
        for number, name in enumerate(reversed(names))
    ]
    # Every third is late: its stream has been taken over.
    frames = [
        replace_dataclass(frame, generation=0) if number % 3 == 0 else frame
        for number, frame in enumerate(frames)
    ]
    stored = await asyncio.gather(*(store.streams.record_heartbeat(frame) for frame in frames))

    assert [number % 3 != 0 for number in range(60)] == stored
    for frame, is_stored in zip(frames, stored, strict=True):
        agent = await store.agent(frame.agent_id)
        expected = (frame.vitals, frame.facts) if is_stored else (None, None)
        assert expected == (agent.vitals, agent.facts)


async def test_the_status_is_the_one_in_the_row(store: StoreUnderTest) -> None:
    """``agent_status`` reads what was committed last."""
    await enrol(store, "a")
    before = await store.streams.agent_status("a")
    await revoke(store, "a")

    assert (AgentStatus.ACTIVE, AgentStatus.REVOKED) == (before, await store.streams.agent_status("a"))
    assert await store.streams.agent_status("nobody") is None


async def test_a_stream_of_a_key_that_was_replaced_is_not_opened(store: StoreUnderTest) -> None:
    """A leaf of the former key opens nothing, and takes nothing over from the stream that is open."""
    await enrol(store, "a")
    generation = await open_stream(store, "a")
    answer = await store.streams.open_stream(
        StreamOpening("a", "a key from before", "worker-1", timedelta(seconds=30))
    )

    assert StreamRefused(AgentStatus.ACTIVE, key_replaced=True) == answer
    assert await store.streams.record_heartbeat(beat("a", generation))
