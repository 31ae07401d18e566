"""What ``enrolment.ports.EnrolmentStore`` promises: a use is spent once, a key enrolled once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from contract.values import (
    APPLICATION,
    EARLIER,
    ISSUED,
    StoreUnderTest,
    create_token,
    digest_of,
    enrol,
    leaf,
    new_agent,
    open_stream,
)
from ct_ops_proto.enrolment_token import secret_digest
from ct_ops_server.enrolment.model import Application, Collision, Findings, NewAgent, NewKey, TokenTerms
from ct_ops_server.enrolment.ports import KeyAlreadyEnrolledError, TokenNotRedeemedError, TooManyPendingError
from ct_ops_server.fleet.model import AgentStatus, Tag
from ct_ops_server.fleet.ports import WriteRefusedError


async def uses(store: StoreUnderTest, token_id: str = "token-1") -> int:
    token = await store.enrolment.find_token(digest_of(token_id))
    assert token is not None
    return token.uses


async def test_an_admission_spends_one_use_and_starts_the_history(store: StoreUnderTest) -> None:
    """The agent, its history and the spent use appear together."""
    token = await create_token(store.tokens)
    await store.enrolment.admit(new_agent("a", token_id=token), leaf=None)

    assert 1 == await uses(store)
    assert "a" == (await store.agent("a")).id
    assert [AgentStatus.ACTIVE] == [line.status for line in await store.agents.status_history("a")]


async def test_an_admission_may_bring_the_first_leaf(store: StoreUnderTest) -> None:
    """An agent that is active at once is never without its leaf."""
    token = await create_token(store.tokens)
    await store.enrolment.admit(new_agent("a", token_id=token), leaf=leaf("a", "01"))
    found = await store.enrolment.find_agent("key-a")

    assert found is not None
    assert ("a", AgentStatus.ACTIVE, APPLICATION.public_key_der) == (
        found.id,
        found.status,
        found.public_key_der,
    )
    assert ("leaf 01", digest_of("01"), ISSUED, ISSUED + timedelta(days=90), digest_of("authority")) == (
        found.leaf_pem,
        found.leaf_sha256,
        found.leaf_issued_at,
        found.leaf_not_after,
        found.leaf_authority_sha256,
    )


async def test_an_agent_may_be_without_a_leaf(store: StoreUnderTest) -> None:
    """A pending agent has none yet."""
    await enrol(store, "a", status=AgentStatus.PENDING)
    found = await store.enrolment.find_agent("key-a")

    assert found is not None
    assert (None, None, None) == (found.leaf_pem, found.leaf_sha256, found.leaf_not_after)


async def test_a_key_that_nobody_holds_is_not_found(store: StoreUnderTest) -> None:
    """An unknown key finds nothing."""
    assert await store.enrolment.find_agent("key-nobody") is None


@pytest.mark.parametrize(
    "terms",
    [TokenTerms("used up", max_uses=0), TokenTerms("expired", expires_at=EARLIER)],
    ids=lambda terms: terms.label,
)
async def test_a_token_that_is_over_admits_nobody(store: StoreUnderTest, terms: TokenTerms) -> None:
    """The spending statement itself looks, and nothing is left behind."""
    token = await create_token(store.tokens, terms=terms)

    with pytest.raises(TokenNotRedeemedError):
        await store.enrolment.admit(new_agent("a", token_id=token), leaf=leaf("a", "01"))

    assert 0 == await uses(store)
    assert [] == await store.agents.find_agents("a")
    assert await store.enrolment.find_agent("key-a") is None


async def test_a_token_that_does_not_exist_admits_nobody(store: StoreUnderTest) -> None:
    """An id alone is no invitation."""
    with pytest.raises(TokenNotRedeemedError):
        await store.enrolment.admit(new_agent("a", token_id="nothing"), leaf=None)


async def test_a_key_is_enrolled_once_and_the_second_try_spends_nothing(store: StoreUnderTest) -> None:
    """Whoever comes second with a key hears so, even when the token's last use is gone."""
    token = await create_token(store.tokens, terms=TokenTerms("one use", max_uses=1))
    await store.enrolment.admit(new_agent("a", token_id=token), leaf=None)
    again = replace(new_agent("b"), application=new_agent("a").application)

    with pytest.raises(KeyAlreadyEnrolledError):
        await store.enrolment.admit(replace(again, token_id=token), leaf=None)

    assert 1 == await uses(store)
    assert [] == await store.agents.find_agents("b")


async def test_two_hundred_registers_at_once_on_ten_uses_admit_ten(store: StoreUnderTest) -> None:
    """However many hosts race for a token, it admits as many as it says."""
    token = await create_token(store.tokens, terms=TokenTerms("ten uses", max_uses=10))
    results = await asyncio.gather(
        *(
            store.enrolment.admit(new_agent(f"a{n:03}", token_id=token), leaf=leaf(f"a{n:03}", str(n)))
            for n in range(200)
        ),
        return_exceptions=True,
    )

    assert [10, 190] == [
        results.count(None),
        sum(isinstance(result, TokenNotRedeemedError) for result in results),
    ]
    assert 10 == await uses(store)
    assert 10 == len(await store.agents.list_agents())


async def test_attack_a_stolen_token_cannot_fill_the_store_with_agents_that_wait(
    store: StoreUnderTest,
) -> None:
    """A thousand of one token may wait; neither an agent that is let in at once nor another token minds."""
    token, other = await create_token(store.tokens), await create_token(store.tokens, "token-2")

    def waiting(name: str, by: str = token) -> NewAgent:
        return new_agent(name, status=AgentStatus.PENDING, token_id=by)

    await asyncio.gather(
        *(store.enrolment.admit(waiting(f"a{number}"), leaf=None) for number in range(1_000))
    )
    with pytest.raises(TooManyPendingError):
        await store.enrolment.admit(waiting("one-more"), leaf=None)
    await store.enrolment.admit(new_agent("active", token_id=token), leaf=None)
    await store.enrolment.admit(waiting("of-another", by=other), leaf=None)

    assert 1_001 == await uses(store)

    approve = frozenset({AgentStatus.PENDING})
    await store.agents.change_status(
        "a7", allowed_from=approve, to=AgentStatus.ACTIVE, actor="ada", reason=""
    )
    await store.enrolment.admit(waiting("one-more"), leaf=None)


async def test_one_key_registering_many_times_at_once_becomes_one_agent(store: StoreUnderTest) -> None:
    """A Register that is sent twice spends one use."""
    token = await create_token(store.tokens, terms=TokenTerms("ten uses", max_uses=10))
    results = await asyncio.gather(
        *(
            store.enrolment.admit(
                new_agent(f"a{number}", application=APPLICATION, token_id=token), leaf=leaf(f"a{number}", "1")
            )
            for number in range(8)
        ),
        return_exceptions=True,
    )

    assert [1, 7] == [
        results.count(None),
        sum(isinstance(result, KeyAlreadyEnrolledError) for result in results),
    ]
    assert 1 == await uses(store)
    assert 1 == len(await store.agents.list_agents())


async def test_the_leaf_of_an_agent_is_the_youngest_one(store: StoreUnderTest) -> None:
    """Renewal adds a leaf; the order in which they were recorded does not matter."""
    await enrol(store, "a")
    for serial, days in {"02": 30, "03": 60, "01": 0}.items():
        await store.enrolment.record_leaf(leaf("a", serial, issued_at=ISSUED + timedelta(days=days)))
    found = await store.enrolment.find_agent("key-a")

    assert found is not None
    assert "leaf 03" == found.leaf_pem
    assert found.leaf_not_after == (await store.agent("a")).leaf_not_after


async def test_a_leaf_of_years_ahead_is_not_the_youngest_any_more(store: StoreUnderTest) -> None:
    """The server's clock was wrong when it signed it: once it signs by a clock that is right, that one counts."""
    await enrol(store, "a")
    await store.enrolment.record_leaf(leaf("a", "01", issued_at=ISSUED + timedelta(days=3000)))
    await store.enrolment.record_leaf(leaf("a", "02", issued_at=ISSUED))
    found = await store.agent("a")

    assert found.leaf_not_after == ISSUED + timedelta(days=90)


async def test_a_leaf_of_nobody_is_refused(store: StoreUnderTest) -> None:
    """A leaf belongs to an agent that exists."""
    with pytest.raises(WriteRefusedError):
        await store.enrolment.record_leaf(leaf("nobody", "01"))


async def test_a_proven_agent_says_who_it_is_now(store: StoreUnderTest) -> None:
    """Hostname, platform, claims and the address it registers from follow it; its key and tags stay."""
    await enrol(store, "a")
    moved = replace(
        APPLICATION,
        key_id="another",
        hostname="web-2",
        claimed_tags=(Tag("rack", "9"),),
        observed_address="203.0.113.9",
    )
    await store.enrolment.refresh_facts("a", moved)
    agent = await store.agent("a")

    assert ("web-2", "203.0.113.9") == (agent.hostname, agent.observed_address)
    assert (Tag("rack", "9"),) == agent.claimed_tags
    assert ("key-a", (Tag("role", "web"),)) == (agent.key_id, agent.tags)


async def collide(store: StoreUnderTest, **holders: tuple[str, bool]) -> Collision | None:
    """Let agents hold the hostname "web-1", each from an address and live or not; then apply."""
    await store.presence.renew_lease("worker-1")
    token = await create_token(store.tokens)
    for agent_id, (address, live) in holders.items():
        held = replace(APPLICATION, key_id=f"key-{agent_id}", observed_address=address)
        await store.enrolment.admit(new_agent(agent_id, application=held, token_id=token), leaf=None)
        if live:
            await open_stream(store, agent_id)
    return await collision_of(store, replace(APPLICATION, key_id="key-new"))


async def collision_of(store: StoreUnderTest, application: Application) -> Collision | None:
    """Return what stands in an application's way, which is looked for only beside a token."""
    await store.tokens.create_token("shown", secret_digest("tok_shown"), TokenTerms("shown"), actor="ada")
    return (await store.enrolment.look_up(replace(application, token="tok_shown"))).collision


async def test_a_hostname_that_nobody_holds_collides_with_nobody(store: StoreUnderTest) -> None:
    """A new host is new."""
    assert await collide(store) is None


async def test_a_live_holder_at_the_same_address_is_the_most_serious_collision(store: StoreUnderTest) -> None:
    """Live counts before the address, both before either."""
    same, other = "198.51.100.7", "203.0.113.9"
    found = await collide(store, a=(other, True), b=(same, False), c=(same, True), d=(other, False))

    assert Collision("c", live=True, same_address=True) == found


async def test_a_live_holder_elsewhere_is_more_serious_than_a_dead_one_here(store: StoreUnderTest) -> None:
    """A host that answers is a fact; an address may have been given to another."""
    found = await collide(store, a=("198.51.100.7", False), b=("203.0.113.9", True))

    assert Collision("b", live=True, same_address=False) == found


async def test_what_was_carried_here_shares_no_address_with_another(store: StoreUnderTest) -> None:
    """It came from none: a live host of that name is no live twin for it."""
    await store.presence.renew_lease("worker-1")
    token = await create_token(store.tokens)
    carried = replace(APPLICATION, observed_address="")
    await store.enrolment.admit(new_agent("a", application=carried, token_id=token), leaf=None)
    await open_stream(store, "a")

    assert Collision("a", live=True, same_address=False) == await collision_of(
        store, replace(carried, key_id="key-new")
    )


async def test_a_revoked_holder_of_a_hostname_is_no_collision(store: StoreUnderTest) -> None:
    """Whoever was revoked is out of the way."""
    await enrol(store, "a", status=AgentStatus.REVOKED)

    assert await collision_of(store, replace(APPLICATION, key_id="key-new", hostname="host-a")) is None


@pytest.mark.parametrize("live", [True, False])
async def test_the_same_machine_under_another_name_is_a_twin(store: StoreUnderTest, live: bool) -> None:  # noqa: FBT001  a column
    """A renamed copy is still the machine it was, wherever it calls from."""
    await store.presence.renew_lease("worker-1")
    token = await create_token(store.tokens)
    held = replace(APPLICATION, key_id="key-a", machine_id="f" * 64, observed_address="203.0.113.9")
    await store.enrolment.admit(new_agent("a", application=held, token_id=token), leaf=None)
    if live:
        await open_stream(store, "a")
    renamed = replace(APPLICATION, key_id="key-new", hostname="other", machine_id="f" * 64)
    found = await collision_of(store, renamed)

    assert Collision("a", live=live, same_address=False, same_machine=True) == found
    assert live is found.is_live_twin


async def test_machines_that_say_nothing_about_themselves_are_no_twins(store: StoreUnderTest) -> None:
    """Existing agents know no machine id: two of them have nothing in common."""
    token = await create_token(store.tokens)
    await store.enrolment.admit(new_agent("a", token_id=token), leaf=None)

    assert await collision_of(store, replace(APPLICATION, key_id="key-new", hostname="other")) is None


async def test_what_is_found_of_a_known_key_is_its_agent_and_the_token(store: StoreUnderTest) -> None:
    """Nothing else matters about a key that is enrolled."""
    await enrol(store, "a")
    application = replace(APPLICATION, key_id="key-a", hostname="host-a", token="tok_none")
    found = await store.enrolment.look_up(application)

    assert found.known is not None
    assert Findings(known=found.known) == found


async def test_the_key_of_an_agent_deleted_while_revoked_is_barred(store: StoreUnderTest) -> None:
    """Deletion is no way back for a revoked key; an agent deleted while active leaves its key free."""
    await enrol(store, "a", "b")
    await store.agents.change_status(
        "a", allowed_from=frozenset({AgentStatus.ACTIVE}), to=AgentStatus.REVOKED, actor="ada", reason=""
    )
    for agent_id in ("a", "b"):
        assert await store.agents.delete_agent(agent_id, actor="ada", reason="")
    found = [await store.enrolment.look_up(replace(APPLICATION, key_id=f"key-{name}")) for name in "ab"]

    assert [True, False] == [each.key_is_barred for each in found]


async def test_an_id_is_never_given_out_twice(store: StoreUnderTest) -> None:
    """Neither a stored agent's nor a deleted one's: a leaf may still name it."""
    await enrol(store, "a", "b")
    await store.agents.delete_agent("b", actor="ada", reason="")
    for agent_id in ("a", "b"):
        stolen = replace(APPLICATION, key_id="key-new", leaf_agent_id=agent_id)
        found = await store.enrolment.look_up(stolen)
        assert found.leaf_agent_is_taken
        with pytest.raises(KeyAlreadyEnrolledError):
            await store.enrolment.admit(new_agent(agent_id, application=stolen), leaf=None)

    unknown = await store.enrolment.look_up(replace(APPLICATION, key_id="key-new", leaf_agent_id="c"))
    assert not unknown.leaf_agent_is_taken


async def test_an_agent_can_be_admitted_without_a_token(store: StoreUnderTest) -> None:
    """One that was forgotten by a restore comes back pending; nothing is spent."""
    await store.enrolment.admit(new_agent("a", status=AgentStatus.PENDING), leaf=None)

    assert AgentStatus.PENDING is (await store.agent("a")).status
    assert (await store.agent("a")).token_id is None


async def test_a_key_is_followed_by_another_with_its_leaf(store: StoreUnderTest) -> None:
    """The new key is the agent's, the old one nobody's, and the history says so."""
    await enrol(store, "a")
    key = NewKey("key-new", b"new der")
    assert await store.enrolment.replace_key("a", "key-a", key, leaf("a", "02"))
    found = await store.enrolment.find_agent("key-new")

    assert found is not None
    assert ("a", b"new der", "leaf 02") == (found.id, found.public_key_der, found.leaf_pem)
    assert await store.enrolment.find_agent("key-a") is None
    assert "agent" == (await store.agents.status_history("a"))[-1].actor
    assert not await store.enrolment.replace_key("a", "key-a", NewKey("key-3", b"3"), leaf("a", "03"))


async def test_a_key_cannot_follow_that_is_or_was_another_agents(store: StoreUnderTest) -> None:
    """Nor can the agent that was revoked meanwhile have a new one."""
    await enrol(store, "a", "b", "c")
    for agent_id in ("b", "c"):
        await store.agents.change_status(
            agent_id,
            allowed_from=frozenset({AgentStatus.ACTIVE}),
            to=AgentStatus.REVOKED,
            actor="ada",
            reason="",
        )
    await store.agents.delete_agent("b", actor="ada", reason="")
    for taken in ("key-b", "key-c"):
        with pytest.raises(KeyAlreadyEnrolledError):
            await store.enrolment.replace_key("a", "key-a", NewKey(taken, b""), leaf("a", "02"))

    assert not await store.enrolment.replace_key("c", "key-c", NewKey("key-9", b""), leaf("c", "03"))


async def test_leaves_that_expired_before_a_new_one_was_issued_are_forgotten(store: StoreUnderTest) -> None:
    """An agent that renews for years does not leave forty leaves behind."""
    await enrol(store, "a")
    for serial, days in {"01": 0, "02": 60, "03": 200}.items():
        await store.enrolment.record_leaf(leaf("a", serial, issued_at=ISSUED + timedelta(days=days)))
    found = await store.enrolment.find_agent("key-a")

    assert found is not None
    assert "leaf 03" == found.leaf_pem
