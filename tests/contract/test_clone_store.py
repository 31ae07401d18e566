"""What ``fleet.clones.CloneStore`` promises, and what opening a stream does about clones (rule 19)."""

from __future__ import annotations

from dataclasses import replace as dataclass_replace
from datetime import timedelta

import pytest
from msgspec.structs import replace

from contract.values import APPLICATION, StoreUnderTest, beat, enrol, leaf, new_agent, open_stream
from ct_ops_server.enrolment.model import NewKey
from ct_ops_server.enrolment.ports import KeyAlreadyEnrolledError
from ct_ops_server.fleet.clones import Outcome
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


async def split_clone(store: StoreUnderTest, place: int = 0) -> None:
    """Quarantine agent "a" and let one side keep it."""
    await enrol(store, "a")
    await clone(store)
    log = await store.clones.sides("a")
    outcome = await store.successions.split("a", log, place, actor="ada", reason="both shall stay")
    assert outcome is Outcome.DONE


async def test_after_a_split_only_the_kept_side_is_served(store: StoreUnderTest) -> None:
    """And it is told to make a new key, for the copy holds the old one."""
    await split_clone(store)
    kept, copy = await open_as(store, ORIGINAL), await open_as(store, COPY)

    assert isinstance(kept, StreamOpened)
    assert kept.must_rotate
    assert isinstance(copy, StreamRefused)
    assert copy.split_off


async def test_the_kept_side_is_known_again_after_a_restart(store: StoreUnderTest) -> None:
    """Another process on the same machine is it; another one on the copy's machine is not."""
    await split_clone(store)
    copy_with_other_interfaces = replace(COPY, macs=("52:54:00:00:00:0b",), process_id="p-d")

    assert isinstance(await open_as(store, replace(ORIGINAL, process_id="p-c")), StreamOpened)
    assert isinstance(await open_as(store, copy_with_other_interfaces), StreamRefused)


async def test_when_the_key_was_followed_by_another_its_copies_hear_of_the_split(
    store: StoreUnderTest,
) -> None:
    """The kept side is served with its new key without further ado, and the old key can be nobody's any more."""
    await split_clone(store)
    assert await store.enrolment.replace_key("a", "key-a", NewKey("key-new", b"new"), leaf("a", "02"))
    with_new_key = await store.streams.open_stream(StreamOpening("a", "key-new", "worker-1", None, ORIGINAL))
    copy = await open_as(store, COPY)

    assert isinstance(with_new_key, StreamOpened)
    assert not with_new_key.must_rotate
    assert isinstance(copy, StreamRefused)
    assert copy.split_off
    with pytest.raises(KeyAlreadyEnrolledError):
        await store.enrolment.admit(
            new_agent("b", application=dataclass_replace(APPLICATION, key_id="key-a")), leaf=None
        )


async def test_a_copy_that_applies_with_a_key_of_its_own_is_known_by_the_old_one(
    store: StoreUnderTest,
) -> None:
    """The connection proved the key that was split off."""
    await split_clone(store)
    application = dataclass_replace(APPLICATION, key_id="key-own", presented_key_id="key-a")
    found = await store.enrolment.look_up(application)

    assert "a" == found.split_from


async def test_only_an_agent_in_quarantine_is_split(store: StoreUnderTest) -> None:
    """Somebody else may have decided meanwhile."""
    await enrol(store, "a")
    log = await store.clones.sides("a")

    assert Outcome.CHANGED is await store.successions.split("a", log, 0, actor="ada", reason="")
    assert Outcome.GONE is await store.successions.split("b", log, 0, actor="ada", reason="")


async def test_of_two_agents_that_are_merged_the_other_one_is_revoked_and_points_to_the_first(
    store: StoreUnderTest,
) -> None:
    """What the other one delivered stays readable; its key never comes back."""
    await enrol(store, "a", "b")
    before = await store.endings.last_ending()
    outcome = await store.successions.merge("a", "b", actor="ada", reason="re-installed")
    kept, other = await store.agent("a"), await store.agent("b")
    endings = await store.endings.endings_after(before)

    assert outcome is Outcome.DONE
    assert (AgentStatus.ACTIVE, AgentStatus.REVOKED) == (kept.status, other.status)
    assert "merged into agent a" == other.evidence
    assert [("b", "revoked")] == [(ending.agent_id, ending.reason) for ending in endings]
    for agent_id in ("a", "b"):
        assert "merged into" in (await store.agents.status_history(agent_id))[-1].reason


async def test_new_hardware_takes_the_place_of_an_agent(store: StoreUnderTest) -> None:
    """The old agent has the new key, its own id, name and tags; the old key is barred for good."""
    await enrol(store, "a", "b")
    generation = await open_stream(store, "a")
    outcome = await store.successions.replace("a", "b", actor="ada", reason="new machine")
    found = await store.enrolment.find_agent("key-b")
    old_key = await store.enrolment.look_up(dataclass_replace(APPLICATION, key_id="key-a"))

    assert outcome is Outcome.DONE
    assert found is not None
    assert ("a", AgentStatus.ACTIVE, None) == (found.id, found.status, found.leaf_pem)
    assert "host-a" == (await store.agent("a")).hostname
    assert not await store.agents.find_agents("b")
    assert old_key.key_is_barred
    assert not await store.streams.record_heartbeat(beat("a", generation))


async def test_a_revoked_agent_neither_takes_a_place_nor_gives_one(store: StoreUnderTest) -> None:
    """Its key would come back."""
    await enrol(store, "a", "b")
    await store.agents.change_status(
        "b", allowed_from=frozenset({AgentStatus.ACTIVE}), to=AgentStatus.REVOKED, actor="ada", reason=""
    )

    for decide in (store.successions.merge, store.successions.replace):
        for pair in (("a", "b"), ("b", "a")):
            assert Outcome.CHANGED is await decide(*pair, actor="ada", reason="")
        assert Outcome.GONE is await decide("a", "nobody", actor="ada", reason="")
