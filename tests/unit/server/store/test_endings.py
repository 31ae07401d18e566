"""Endings that two workers append to one PostgreSQL: numbered in the order of their commits."""

from __future__ import annotations

import asyncio

from contract.values import create_token, new_agent
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.opening import Store, open_store

ACTIVE = frozenset({AgentStatus.ACTIVE})


async def admit(store: Store, names: list[str]) -> None:
    token = await create_token(store.tokens)
    for name in names:
        await store.enrolment.admit(new_agent(name, token_id=token), leaf=None)


async def test_a_reader_that_follows_two_workers_sees_every_ending_once(postgres_url: str) -> None:
    """Numbers that committed late would be lost to whoever reads on from the last one (rule 20)."""
    names = [f"a{number:02}" for number in range(40)]
    async with open_store(postgres_url) as one, open_store(postgres_url) as two:
        await admit(one, names)
        seen: list[str] = []

        async def revoke(store: Store, name: str) -> None:
            await store.agents.change_status(
                name, allowed_from=ACTIVE, to=AgentStatus.REVOKED, actor="ada", reason=""
            )

        async def follow() -> None:
            last = 0
            while len(seen) < len(names):
                for ending in await one.endings.endings_after(last):
                    seen.append(ending.agent_id)
                    last = ending.number
                await asyncio.sleep(0)

        async with asyncio.timeout(30):
            await asyncio.gather(
                follow(), *(revoke((one, two)[number % 2], name) for number, name in enumerate(names))
            )

    assert sorted(names) == sorted(seen)
