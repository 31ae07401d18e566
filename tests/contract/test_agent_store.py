"""What ``fleet.ports.AgentStore`` promises: what operators see, and that their verdicts hold."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from contract.values import (
    APPLICATION,
    FACTS,
    ISSUED,
    StoreUnderTest,
    beat,
    create_token,
    enrol,
    leaf,
    new_agent,
    open_stream,
)
from ct_ops_server.fleet.model import AgentStatus, Tag

PENDING = frozenset({AgentStatus.PENDING})
ACTIVE = frozenset({AgentStatus.ACTIVE})


async def admit_host(store: StoreUnderTest, agent_id: str, hostname: str) -> None:
    token = await create_token(store.tokens, f"token-of-{agent_id}")
    application = replace(APPLICATION, key_id=f"key-{agent_id}", hostname=hostname)
    await store.enrolment.admit(new_agent(agent_id, application=application, token_id=token), leaf=None)


async def test_agents_are_listed_by_hostname_then_id(store: StoreUnderTest) -> None:
    """The order is the same on every database, whatever its locale makes of capitals."""
    for agent_id, hostname in {"3": "web", "2": "web", "1": "Web", "4": "db"}.items():
        await admit_host(store, agent_id, hostname)

    assert ["1", "4", "2", "3"] == [agent.id for agent in await store.agents.list_agents()]


async def test_a_list_can_be_narrowed_to_a_status(store: StoreUnderTest) -> None:
    """Operators look at who is pending."""
    await enrol(store, "a")
    await enrol(store, "b", status=AgentStatus.PENDING)

    assert ["b"] == [agent.id for agent in await store.agents.list_agents(status=AgentStatus.PENDING)]


async def test_a_list_leaves_out_the_lists_of_the_vitals(store: StoreUnderTest) -> None:
    """Thousands of agents are listed without their disks."""
    await enrol(store, "a")
    await store.streams.record_heartbeat(beat("a", await open_stream(store, "a"), facts=FACTS))
    (agent,) = await store.agents.list_agents()

    assert agent.facts is None
    assert agent.vitals is not None


async def test_an_agent_is_shown_as_it_enrolled(store: StoreUnderTest) -> None:
    """Everything an operator sees about a new agent comes from its admission."""
    token = await create_token(store.tokens)
    new = replace(new_agent("a", application=APPLICATION), evidence="same hostname as b")
    await store.enrolment.admit(replace(new, token_id=token), leaf=leaf("a", "01"))
    agent = await store.agent("a")

    assert ("web-1", AgentStatus.ACTIVE, False) == (agent.hostname, agent.status, agent.online)
    assert ("key-a", "198.51.100.7") == (agent.key_id, agent.observed_address)
    assert ((Tag("role", "web"),), (Tag("rack", "7"),)) == (agent.tags, agent.claimed_tags)
    assert ("same hostname as b", None, None) == (agent.evidence, agent.vitals, agent.facts)
    assert agent.last_seen_at is None
    assert leaf("a", "01").not_after == agent.leaf_not_after
    assert agent.created_at > ISSUED


async def test_several_tags_belong_to_their_own_agents(store: StoreUnderTest) -> None:
    """Tags come by key; of two values of one key the last one said holds."""
    token = await create_token(store.tokens)
    tags = (Tag("site", "b"), Tag("role", "db"), Tag("site", "a"))
    await store.enrolment.admit(replace(new_agent("a", token_id=token), tags=tags), leaf=None)
    await store.enrolment.admit(replace(new_agent("b", token_id=token), tags=()), leaf=None)

    assert {"a": (Tag("role", "db"), Tag("site", "a")), "b": ()} == {
        agent.id: agent.tags for agent in await store.agents.list_agents()
    }


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("abc", ["abc"]),  # an id, though it begins another one
        ("abcd", ["abcd"]),
        ("ab", ["abc", "abcd", "abx"]),  # a prefix of several: ambiguous
        ("b", ["b1"]),  # a prefix, though it is a hostname of another
        ("web", ["abc"]),
        ("we", []),  # no prefix of a hostname
        ("", []),
        ("a%", []),
        ("a_c", []),
        ("ABC", []),
    ],
)
async def test_an_agent_is_found_by_id_then_prefix_then_hostname(
    store: StoreUnderTest, selector: str, found: list[str]
) -> None:
    """The first rule that finds anything wins; wildcards and capitals mean nothing."""
    for agent_id, hostname in {"abc": "web", "abcd": "b", "abx": "c", "b1": "abc"}.items():
        await admit_host(store, agent_id, hostname)

    assert found == [agent.id for agent in await store.agents.find_agents(selector)]


async def test_a_verdict_is_stored_with_who_and_why(store: StoreUnderTest) -> None:
    """Approval changes the status and adds a line to the history."""
    await enrol(store, "a", status=AgentStatus.PENDING)
    before = await store.agents.change_status(
        "a", allowed_from=PENDING, to=AgentStatus.ACTIVE, actor="ada", reason="known host"
    )
    history = await store.agents.status_history("a")

    assert AgentStatus.PENDING == before
    assert AgentStatus.ACTIVE == (await store.agent("a")).status
    assert [
        (AgentStatus.PENDING, "enrolment", "enrolment token token-of-a"),
        (AgentStatus.ACTIVE, "ada", "known host"),
    ] == [(line.status, line.actor, line.reason) for line in history]


async def test_a_verdict_that_does_not_fit_changes_nothing(store: StoreUnderTest) -> None:
    """The caller hears the status that was in the way."""
    await enrol(store, "a", status=AgentStatus.REVOKED)
    before = await store.agents.change_status(
        "a", allowed_from=PENDING, to=AgentStatus.ACTIVE, actor="ada", reason=""
    )

    assert AgentStatus.REVOKED == before
    assert AgentStatus.REVOKED == (await store.agent("a")).status
    assert 1 == len(await store.agents.status_history("a"))


async def test_a_verdict_on_nobody_finds_nobody(store: StoreUnderTest) -> None:
    """There is no status without an agent."""
    found = await store.agents.change_status(
        "nobody", allowed_from=PENDING, to=AgentStatus.ACTIVE, actor="ada", reason=""
    )

    assert found is None
    assert [] == await store.agents.status_history("nobody")


async def test_of_many_verdicts_at_once_one_takes_effect(store: StoreUnderTest) -> None:
    """A status is read and changed in one step: two operators cannot both be the one who approved."""
    await enrol(store, "a", status=AgentStatus.PENDING)
    found = await asyncio.gather(
        *(
            store.agents.change_status(
                "a", allowed_from=PENDING, to=AgentStatus.ACTIVE, actor=f"operator {number}", reason=""
            )
            for number in range(20)
        )
    )

    assert 1 == found.count(AgentStatus.PENDING)
    assert 2 == len(await store.agents.status_history("a"))


async def test_leaving_active_ends_presence(store: StoreUnderTest) -> None:
    """A revoked agent is offline at once."""
    await enrol(store, "a")
    await store.presence.renew_lease("worker-1")
    await open_stream(store, "a")
    await store.agents.change_status(
        "a", allowed_from=ACTIVE, to=AgentStatus.REVOKED, actor="ada", reason="sold"
    )

    assert not (await store.agent("a")).online


async def test_a_deleted_agent_leaves_a_tombstone_with_its_history(store: StoreUnderTest) -> None:
    """Who deleted it, when and why, and all that was decided before; the youngest deletion first."""
    await enrol(store, "a", "b")
    await store.agents.change_status(
        "b", allowed_from=ACTIVE, to=AgentStatus.REVOKED, actor="ada", reason="sold"
    )
    for agent_id in "ab":
        assert await store.agents.delete_agent(agent_id, actor="bob", reason="scrapped")
    left = {gone.id: gone for gone in await store.agents.deleted_agents()}

    assert {"a": "host-a", "b": "host-b"} == {gone.id: gone.hostname for gone in left.values()}
    assert (AgentStatus.ACTIVE, AgentStatus.REVOKED) == (left["a"].status, left["b"].status)
    assert ("bob", "scrapped") == (left["b"].actor, left["b"].reason)
    assert left["a"].deleted_at >= ISSUED
    assert [AgentStatus.ACTIVE, AgentStatus.REVOKED] == [line.status for line in left["b"].history]
    assert "sold" == left["b"].history[-1].reason


async def test_everything_of_a_deleted_agent_goes_with_it(store: StoreUnderTest) -> None:
    """Its key may enrol anew, and finds no tag, fact, leaf or history of the one before."""
    token = await create_token(store.tokens)
    await store.enrolment.admit(new_agent("a", token_id=token), leaf=leaf("a", "01"))
    await store.streams.record_heartbeat(beat("a", await open_stream(store, "a"), facts=FACTS))
    assert await store.agents.delete_agent("a", actor="ada", reason="")

    assert [] == await store.agents.find_agents("a")
    assert [] == await store.agents.list_agents()
    assert [] == await store.agents.status_history("a")
    same_key = replace(APPLICATION, key_id="key-a", hostname="host-a")
    again = replace(new_agent("a2", application=same_key, token_id=token), tags=())
    await store.enrolment.admit(again, leaf=None)
    shown = await store.agent("a2")
    assert ((), None, None, None) == (shown.tags, shown.vitals, shown.facts, shown.leaf_not_after)


async def test_an_agent_is_deleted_once(store: StoreUnderTest) -> None:
    """Of many who delete it at the same time one did; there is one tombstone and one ending."""
    await enrol(store, "a")
    did = await asyncio.gather(
        *(store.agents.delete_agent("a", actor=f"operator {number}", reason="") for number in range(10))
    )

    assert 1 == did.count(True)
    assert not await store.agents.delete_agent("a", actor="ada", reason="")
    assert 1 == len(await store.agents.deleted_agents())
    assert 1 == await store.endings.last_ending()


async def test_what_an_agent_reports_of_its_clock_is_shown(store: StoreUnderTest) -> None:
    """To the millisecond, behind or ahead, and no longer once it is not known."""
    await enrol(store, "a")
    generation = await open_stream(store, "a")
    shown = []
    for skew in (timedelta(milliseconds=-2_501), timedelta(days=400), None):
        await store.streams.record_heartbeat(replace(beat("a", generation), clock_skew=skew))
        shown.append((await store.agent("a")).clock_skew)

    assert [timedelta(milliseconds=-2_501), timedelta(days=400), None] == shown


async def test_agents_are_counted_by_status(store: StoreUnderTest) -> None:
    """A deleted one no longer."""
    for agent_id in ("1", "2", "3", "4"):
        await admit_host(store, agent_id, f"host-{agent_id}")
    found = {agent.status for agent in await store.agents.list_agents()}
    assert 1 == len(found)
    (status,) = found
    await store.agents.change_status(
        "1", allowed_from=frozenset({status}), to=AgentStatus.REVOKED, actor="test", reason=""
    )
    await store.agents.delete_agent("2", actor="test", reason="")

    assert {status: 2, AgentStatus.REVOKED: 1} == dict(await store.agents.count_by_status())


async def test_a_prefix_of_hostnames_is_no_pattern(store: StoreUnderTest) -> None:
    """``%`` and ``_`` mean themselves, capitals too: whoever deletes by prefix deletes nothing else."""
    names = {
        "1": "load_a-2",
        "2": "load_a-1",
        "3": "loadxa-1",
        "4": "Load_a-1",
        "5": "an-load_a-1",
        "6": "load%",
    }
    for agent_id, hostname in names.items():
        await admit_host(store, agent_id, hostname)

    assert [("2", "load_a-1"), ("1", "load_a-2")] == list(await store.agents.hosts_starting_with("load_a-"))
    assert [("6", "load%")] == list(await store.agents.hosts_starting_with("load%"))
    assert [] == list(await store.agents.hosts_starting_with("nothing-"))
