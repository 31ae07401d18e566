"""What ``store.replaying`` promises: what was decided after a copy holds again, and doing it twice changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as replace_side

from contract.test_clone_store import COPY, ORIGINAL, clone, open_as, split_clone
from contract.values import APPLICATION, StoreUnderTest, create_token, enrol, new_agent
from ct_ops_server.enrolment.carried_ports import AnsweredRequest
from ct_ops_server.enrolment.model import NewAgent
from ct_ops_server.enrolment.ports import KeyAlreadyEnrolledError
from ct_ops_server.fleet.clones import Outcome
from ct_ops_server.fleet.model import (
    SPLIT_AFTER_BACKUP,
    AgentStatus,
    StreamOpened,
    StreamOpening,
    StreamRefused,
)
from ct_ops_server.fleet.sides import Proof, Side
from ct_ops_server.store.replaying import (
    AgentApproved,
    AgentDeleted,
    AgentRevoked,
    Event,
    KeyReplaced,
    KeyShared,
    PlaceTaken,
    RequestAnswered,
    Said,
    Subject,
    TokenRevoked,
    TokenSpent,
)

SAID = Said("ada", "since the backup", 1_900_000_000_000)


def subject(agent_id: str) -> Subject:
    return Subject(agent_id, f"key-{agent_id}", f"host-{agent_id}")


async def taken(store: StoreUnderTest, agent_id: str) -> bool:
    """Tell whether a leaf that names this agent brings nobody back."""
    application = new_agent(agent_id).application
    findings = await store.enrolment.look_up(application)
    return findings.leaf_agent_is_taken or findings.key_is_barred or findings.known is not None


async def test_verdicts_hold_again(store: StoreUnderTest) -> None:
    """A revoked agent is revoked, a deleted one gone, one that was approved is in."""
    await enrol(store, "revoked", "deleted")
    await enrol(store, "approved", status=AgentStatus.PENDING)
    events: list[Event] = [
        AgentRevoked(subject("revoked"), SAID),
        AgentDeleted(subject("deleted"), AgentStatus.ACTIVE, SAID),
        AgentApproved("approved", SAID),
    ]
    await store.replay([*events, *events])

    statuses = {agent.id: agent.status for agent in await store.agents.list_agents()}
    assert {"revoked": AgentStatus.REVOKED, "approved": AgentStatus.ACTIVE} == statuses
    assert [("deleted", AgentStatus.ACTIVE)] == [
        (left.id, left.status) for left in await store.agents.deleted_agents()
    ]


async def test_an_agent_that_the_copy_never_knew_stays_out(store: StoreUnderTest) -> None:
    """It was enrolled, and ended, after the copy: its end is all that is written."""
    await store.replay(
        [AgentRevoked(subject("a"), SAID), AgentDeleted(subject("b"), AgentStatus.REVOKED, SAID)]
    )

    assert await taken(store, "a")
    assert await taken(store, "b")
    assert not await taken(store, "c")


async def test_a_key_that_followed_is_the_agents_again(store: StoreUnderTest) -> None:
    """Unless it is another agent's by now."""
    await enrol(store, "a", "b")
    await store.replay([KeyReplaced("a", "key-new", b"der", SAID), KeyReplaced("b", "key-new", b"der", SAID)])

    assert ("key-new", "key-b") == ((await store.agent("a")).key_id, (await store.agent("b")).key_id)


async def test_tokens_are_as_spent_and_as_revoked_as_they_were(store: StoreUnderTest) -> None:
    """Who revoked one first stays the one who did."""
    await create_token(store.tokens, "one")
    other = Said("bob", "later", SAID.at_ms + 1)
    await store.replay(
        [TokenSpent("one"), TokenSpent("one"), TokenRevoked("one", SAID), TokenRevoked("one", other)]
    )
    (token,) = await store.tokens.list_tokens()

    assert (2, "ada", "since the backup") == (token.uses, token.revoked_by, token.revoked_reason)


async def test_attack_a_carried_request_that_was_answered_since_is_no_use_again(
    store: StoreUnderTest,
) -> None:
    """Its id is spent in the restored database too; what a copy of it had recorded stays."""
    answered = AnsweredRequest("0" * 32, b"d" * 32, "key-a", "a", b"l" * 32, "ada")
    await store.replay([RequestAnswered(answered, SAID.at_ms)] * 2)

    assert answered == await store.carried.find_answered("0" * 32)
    assert not await store.carried.record_answered(replace(answered, leaf_sha256=b"m" * 32))


NEW_HARDWARE = Side("192.0.2.9", "p-new", "o-new", "boot-new", "machine-new", "web-1")


def place_taken(old: str, new: str, key_der: bytes = b"of the new one") -> PlaceTaken:
    """Return the record that the host of ``new`` took the place of ``old``."""
    return PlaceTaken(Subject(old, f"key-{new}", f"host-{old}"), new, f"key-{old}", key_der, SAID)


async def test_attack_a_key_that_copies_share_makes_no_agent_again(store: StoreUnderTest) -> None:
    """Of a split since: whoever applies with that key, or is known by it, was a copy of the agent."""
    await enrol(store, "a")
    await store.replay([KeyShared("a", SAID), KeyReplaced("a", "key-new", b"new", SAID)] * 2)
    shared = replace(APPLICATION, key_id="key-a")
    own = replace(APPLICATION, key_id="key-own", presented_key_id="key-a")

    assert ["a", "a"] == [(await store.enrolment.look_up(each)).split_from for each in (shared, own)]
    assert "key-new" == (await store.agent("a")).key_id


async def test_attack_a_copy_of_an_agent_that_was_enrolled_since_is_known_by_its_key(
    store: StoreUnderTest,
) -> None:
    """Its leaf names the agent, which the copy of the database never knew; of a key that nobody told nothing is known."""
    await store.replay([KeyShared("b", SAID, "key-b"), KeyShared("c", SAID)])

    found = [await store.enrolment.look_up(replace(APPLICATION, key_id=f"key-{each}")) for each in "bc"]
    assert ["b", None] == [each.split_from for each in found]


async def test_when_the_key_of_a_split_agent_was_followed_since_it_is_not_asked_for_another(
    store: StoreUnderTest,
) -> None:
    """The copy is known by the old key, and the agent speaks from wherever it is by now."""
    await split_clone(store)
    await store.replay([KeyReplaced("a", "key-new", b"new", SAID)])
    moved = replace_side(ORIGINAL, address="192.0.2.77", process_id="p-later", boot_id="boot-later", macs=())
    opened = await store.streams.open_stream(StreamOpening("a", "key-new", "worker-1", None, moved))
    copy = await open_as(store, COPY)

    assert isinstance(opened, StreamOpened)
    assert not opened.must_rotate
    assert isinstance(copy, StreamRefused)
    assert copy.split_off


async def test_a_split_whose_key_nobody_followed_waits_for_the_same_decision(store: StoreUnderTest) -> None:
    """The copy of the database may know neither side, so nobody is served as the agent, and both say who they are."""
    await enrol(store, "a")
    await open_as(store, ORIGINAL)
    await store.replay([KeyShared("a", SAID, "key-a")] * 2)
    refused = [await open_as(store, side) for side in (ORIGINAL, COPY)]
    log = await store.clones.sides("a")

    assert [StreamRefused(AgentStatus.QUARANTINED)] * 2 == refused
    assert (Proof.SPLIT_AFTER_BACKUP, [ORIGINAL, COPY]) == (log.why, [each.side for each in log.seen])
    assert Outcome.DONE is await store.successions.split("a", log, 0, actor="ada", reason="again")
    assert isinstance(await open_as(store, ORIGINAL), StreamOpened)


async def test_a_split_whose_key_was_followed_is_over(store: StoreUnderTest) -> None:
    """The agent is served with the key that no copy holds, also where the copy of the database knows it in quarantine."""
    await enrol(store, "a")
    await clone(store)
    await store.replay(
        [KeyShared("a", SAID, "key-a"), KeyReplaced("a", "key-new", b"new", SAID, old_key_id="key-a")] * 2
    )
    opened = await store.streams.open_stream(StreamOpening("a", "key-new", "worker-1", None, ORIGINAL))
    copy = await open_as(store, COPY)

    assert isinstance(opened, StreamOpened)
    assert not opened.must_rotate
    assert isinstance(copy, StreamRefused)
    assert copy.split_off


async def test_an_agent_that_was_split_before_the_store_knew_it_comes_back_in_quarantine(
    store: StoreUnderTest,
) -> None:
    """With the key that its copies hold, as long as none followed that; under no other id."""
    await store.replay([KeyShared("a", SAID, "key-a"), KeyShared("b", SAID, "key-b")])
    await store.replay([KeyReplaced("b", "key-new", b"new", SAID, old_key_id="key-b")])
    found = [await store.enrolment.look_up(replace(APPLICATION, key_id=f"key-{each}")) for each in "ab"]

    assert [("a", True), ("b", False)] == [(each.split_from, each.split_is_open) for each in found]
    for agent_id, key_id in (("c", "key-a"), ("b", "key-b")):
        with pytest.raises(KeyAlreadyEnrolledError):
            await store.enrolment.admit(_forgotten(agent_id, key_id), leaf=None)
    await store.enrolment.admit(_forgotten("a", "key-a"), leaf=None)
    ((agent_id, log),) = await store.clones.logs_of_quarantined()

    assert ("a", Proof.SPLIT_AFTER_BACKUP) == (agent_id, log.why)
    assert log.since_ms


def _forgotten(agent_id: str, key_id: str) -> NewAgent:
    application = replace(APPLICATION, key_id=key_id)
    return NewAgent(agent_id, AgentStatus.QUARANTINED, application, (), SPLIT_AFTER_BACKUP)


async def test_an_approval_out_of_a_quarantine_holds_again(store: StoreUnderTest) -> None:
    """The copy was gone, so the agent is served, and whoever speaks next is no suspect."""
    await enrol(store, "a")
    await clone(store)
    await store.replay([AgentApproved("a", SAID)] * 2)

    assert isinstance(await open_as(store, COPY), StreamOpened)
    assert 1 == len((await store.clones.sides("a")).seen)


async def test_new_hardware_has_its_place_again_and_the_old_key_stays_barred(store: StoreUnderTest) -> None:
    """The copy knows both agents as they were; the leaf of the old hardware is the agent's no more."""
    await enrol(store, "a")
    await enrol(store, "b", status=AgentStatus.PENDING)
    await store.replay([place_taken("a", "b")] * 2)
    found = await store.enrolment.find_agent("key-b")
    old_key = await store.enrolment.look_up(replace(APPLICATION, key_id="key-a"))

    assert found is not None
    assert ("a", AgentStatus.ACTIVE, b"of the new one") == (found.id, found.status, found.public_key_der)
    assert old_key.key_is_barred
    assert await taken(store, "b")


async def test_new_hardware_is_not_taken_for_a_copy_of_the_old_one(store: StoreUnderTest) -> None:
    """Of a split before it, the copy remembers which side was kept: that one is gone."""
    await split_clone(store)
    await enrol(store, "b")
    await store.replay([place_taken("a", "b")])
    opening = StreamOpening("a", "key-b", "worker-1", None, NEW_HARDWARE)
    opened = await store.streams.open_stream(opening)

    assert isinstance(opened, StreamOpened)
    assert not opened.must_rotate


async def test_a_place_that_was_taken_with_a_key_that_nobody_told_is_nobodys(store: StoreUnderTest) -> None:
    """The old hardware still holds a leaf of the agent."""
    await enrol(store, "a")
    await store.replay([place_taken("a", "b", b"")] * 2)

    assert AgentStatus.REVOKED is (await store.agent("a")).status


async def test_what_was_revoked_stays_so_whoever_took_its_place(store: StoreUnderTest) -> None:
    """A revocation is never undone."""
    await enrol(store, "a", "b")
    await store.replay([AgentRevoked(subject("a"), SAID), place_taken("a", "b")])
    agent = await store.agent("a")

    assert (AgentStatus.REVOKED, "key-a") == (agent.status, agent.key_id)
