"""What ``enrolment.token_ports.TokenStore`` promises: terms read back whole, one revocation, no second digest."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from contract.values import LATER, StoreUnderTest, create_token, digest_of, new_agent
from ct_ops_server.enrolment.model import AdmittedAgent, TokenRecord, TokenState, TokenTerms
from ct_ops_server.enrolment.ports import TokenNotRedeemedError
from ct_ops_server.fleet.model import AgentStatus, Tag

TERMS = TokenTerms(
    "web servers",
    auto_approve=True,
    max_uses=3,
    expires_at=LATER,
    tags=(Tag("role", "web"), Tag("a", "")),
    networks=("192.0.2.0/24", "2001:db8::/32"),
    hostname_pattern="web-*",
)


async def created(store: StoreUnderTest, *token_ids: str, label: str = "web servers") -> None:
    """Create tokens, each at a time of its own: the store counts milliseconds."""
    for token_id in token_ids:
        await create_token(store.tokens, token_id, TokenTerms(label))
        await asyncio.sleep(0.002)


def ids(tokens: object) -> list[str]:
    assert isinstance(tokens, list)
    return [token.id for token in tokens]


async def test_a_token_is_found_by_its_digest_as_it_was_created(store: StoreUnderTest) -> None:
    """Terms are read back whole; the clock of its creation is the store's."""
    made = await store.tokens.create_token("token-1", digest_of("token-1"), TERMS, actor="ada")

    assert made is not None
    assert made == await store.tokens.find_token(digest_of("token-1"))
    assert TokenRecord("token-1", TERMS, 0, made.created_at, "ada") == made
    assert abs(datetime.now(UTC) - made.created_at) < timedelta(minutes=1)


async def test_a_register_finds_the_same_token_as_an_operator(store: StoreUnderTest) -> None:
    """There is one table of tokens, whoever asks."""
    await created(store, "token-1")
    found = await store.enrolment.find_token(digest_of("token-1"))

    assert found is not None
    assert found == await store.tokens.find_token(digest_of("token-1"))


async def test_a_token_that_was_never_created_is_not_found(store: StoreUnderTest) -> None:
    """An unknown digest, an unknown name and no name at all find nothing."""
    await created(store, "token-1")

    assert await store.tokens.find_token(digest_of("nothing")) is None
    assert [[], []] == [await store.tokens.find_tokens(name) for name in ("nothing", "")]


async def test_an_imported_token_keeps_the_uses_it_had(store: StoreUnderTest) -> None:
    """Two of three were redeemed elsewhere: one is left."""
    await store.tokens.create_token("token-1", digest_of("token-1"), TERMS, actor="ada", uses=2)
    await store.enrolment.admit(new_agent("a", token_id="token-1"), leaf=None)

    with pytest.raises(TokenNotRedeemedError):
        await store.enrolment.admit(new_agent("b", token_id="token-1"), leaf=None)


async def test_the_same_digest_makes_no_second_token(store: StoreUnderTest) -> None:
    """A digest names one token; the one that is there stays as it is."""
    await store.tokens.create_token("token-1", digest_of("token-1"), TERMS, actor="ada")
    again = await store.tokens.create_token("token-2", digest_of("token-1"), TokenTerms("other"), actor="bob")

    assert again is None
    assert ["token-1"] == ids(await store.tokens.list_tokens())
    assert TERMS == (await store.tokens.list_tokens())[0].terms


async def test_tokens_are_listed_youngest_first(store: StoreUnderTest) -> None:
    """What an operator has just made is on top."""
    await created(store, "one", "two", "three")

    assert ["three", "two", "one"] == ids(await store.tokens.list_tokens())


async def test_a_token_is_named_by_id_then_prefix_then_label(store: StoreUnderTest) -> None:
    """An id wins over those that begin with it, both over a label; a label must be whole."""
    await created(store, "ab", "abc", "abd")
    await created(store, "x", label="abc")
    await created(store, "y", "z", label="db 100%_")

    assert ["ab"] == ids(await store.tokens.find_tokens("ab"))
    assert ["abc"] == ids(await store.tokens.find_tokens("abc"))
    assert ["abd", "abc", "ab"] == ids(await store.tokens.find_tokens("a"))
    assert ["z", "y"] == ids(await store.tokens.find_tokens("db 100%_"))
    assert [[], []] == [ids(await store.tokens.find_tokens(name)) for name in ("db", "%")]


async def test_a_revoked_token_admits_nobody_and_says_who_revoked_it(store: StoreUnderTest) -> None:
    """The spending statement itself looks."""
    await created(store, "token-1")
    assert await store.tokens.revoke_token("token-1", actor="ada", reason="leaked")
    (found,) = await store.tokens.find_tokens("token-1")

    assert (TokenState.REVOKED, "ada", "leaked") == (
        found.state(datetime.now(UTC)),
        found.revoked_by,
        found.revoked_reason,
    )
    with pytest.raises(TokenNotRedeemedError):
        await store.enrolment.admit(new_agent("a", token_id="token-1"), leaf=None)


async def test_a_second_revocation_changes_nothing(store: StoreUnderTest) -> None:
    """Of many at once one is the first; the others hear that it was done."""
    await created(store, "token-1")
    results = await asyncio.gather(
        *(store.tokens.revoke_token("token-1", actor=name, reason="") for name in "abcd")
    )
    (found,) = await store.tokens.find_tokens("token-1")

    assert 1 == results.count(True)
    assert "abcd"[results.index(True)] == found.revoked_by
    assert not await store.tokens.revoke_token("nothing", actor="ada", reason="")


async def test_a_token_knows_whom_it_admitted_youngest_first(store: StoreUnderTest) -> None:
    """With the status of each; an agent that was deleted is no longer among them."""
    await created(store, "token-1", "token-2")
    for agent_id, token_id in {"a": "token-1", "b": "token-2", "c": "token-1", "d": "token-1"}.items():
        await store.enrolment.admit(new_agent(agent_id, token_id=token_id), leaf=None)
        await asyncio.sleep(0.002)
    await store.agents.delete_agent("d", actor="ada", reason="")
    admitted = await store.tokens.admitted_agents("token-1", limit=10)

    assert ["c", "a"] == [agent.id for agent in admitted]
    assert AdmittedAgent("c", "host-c", AgentStatus.ACTIVE, admitted[0].admitted_at) == admitted[0]
    assert ["c"] == [agent.id for agent in await store.tokens.admitted_agents("token-1", limit=1)]
