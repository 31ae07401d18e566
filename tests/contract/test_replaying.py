"""What ``store.replaying`` promises: what was decided after a copy holds again, and doing it twice changes nothing."""

from __future__ import annotations

from dataclasses import replace

from contract.values import StoreUnderTest, create_token, enrol, new_agent
from ct_ops_server.enrolment.carried_ports import AnsweredRequest
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.replaying import (
    AgentApproved,
    AgentDeleted,
    AgentRevoked,
    Event,
    KeyReplaced,
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
