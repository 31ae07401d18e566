"""Admissions of two workers that meet: what one of them has read is no longer true when it writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from contract.values import APPLICATION, create_token, digest_of, new_agent
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.enrolment.ports import KeyAlreadyEnrolledError, TokenNotRedeemedError
from ct_ops_server.store import admissions
from ct_ops_server.store.opening import Store, open_store

SAME = replace(APPLICATION, key_id="the same")


@asynccontextmanager
async def two_workers(url: str) -> AsyncIterator[tuple[Store, Store]]:
    async with open_store(url) as one, open_store(url) as other:
        yield one, other


def meanwhile(monkeypatch: pytest.MonkeyPatch, step: str, happens: Callable[[], Awaitable[object]]) -> None:
    """Have something happen just before a step of the next admission, once."""
    real = getattr(admissions, step)

    async def interrupted(*arguments: object) -> object:
        monkeypatch.setattr(admissions, step, real)
        await happens()
        return await real(*arguments)

    monkeypatch.setattr(admissions, step, interrupted)


async def uses(store: Store) -> int:
    token = await store.enrolment.find_token(digest_of("token-1"))
    assert token is not None
    return token.uses


async def test_attack_a_key_is_enrolled_on_two_workers_at_the_same_moment(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one hears that it is enrolled, although it was free when that one looked."""
    async with two_workers(postgres_url) as (one, other):
        token = await create_token(one.tokens)
        meanwhile(
            monkeypatch,
            "_insert_agents",
            lambda: other.enrolment.admit(new_agent("first", application=SAME, token_id=token), leaf=None),
        )
        with pytest.raises(KeyAlreadyEnrolledError):
            await one.enrolment.admit(new_agent("second", application=SAME, token_id=token), leaf=None)

        assert ["first"] == [agent.id for agent in await one.agents.list_agents()]
        assert 1 == await uses(one)


async def test_attack_a_token_is_used_on_one_worker_while_another_revokes_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the moment that `token revoke` has answered it admits nobody, also who had begun before."""
    async with two_workers(postgres_url) as (one, other):
        token = await create_token(one.tokens, terms=TokenTerms("any number"))
        meanwhile(
            monkeypatch, "_spend", lambda: other.tokens.revoke_token(token, actor="ada", reason="leaked")
        )
        with pytest.raises(TokenNotRedeemedError):
            await one.enrolment.admit(new_agent("late", token_id=token), leaf=None)

        assert [] == list(await one.agents.list_agents())
        assert 0 == await uses(one)
