"""Grouped heartbeats on real databases: rule 15 by name, and what a heartbeat costs PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.values import FACTS, VITALS, beat, create_token, new_agent
from ct_ops_server.fleet.model import (
    AgentStatus,
    HeartbeatWrite,
    StreamClosing,
    StreamOpened,
    StreamOpening,
    Vitals,
)
from ct_ops_server.fleet.ports import WriteRefusedError
from ct_ops_server.store.grouping import WriterLimits
from ct_ops_server.store.opening import Store, open_store

NAMES = [f"agent-{number}" for number in range(9)]
VILLAIN = "agent-4"
UNSTORABLE = {
    "an integer of 2^63": replace(VITALS, uptime_s=2**63),
    "an absurd time": replace(VITALS, reported_at_s=2**64 - 1),
    "a time long before the epoch": replace(VITALS, reported_at_s=-(2**63) - 1),
    "a number that no JSON holds": replace(VITALS, uptime_s=2**70),
    "a NUL in a string": replace(VITALS, os_version="Debian\x00 12"),
    "half a character": replace(VITALS, os_version="\ud800"),
}


async def enrol(store: Store, *names: str) -> dict[str, int]:
    """Admit agents and open their streams; return the generations."""
    token = await create_token(store.tokens)
    generations = {}
    for name in names:
        await store.enrolment.admit(new_agent(name, token_id=token), leaf=None)
        opened = await store.streams.open_stream(StreamOpening(name, f"key-{name}", "worker-1", None))
        assert isinstance(opened, StreamOpened)
        generations[name] = opened.generation
    return generations


async def record_together(store: Store, *writes: HeartbeatWrite) -> list[Any]:
    """Record heartbeats so that they share a group; return what each caller gets."""
    release = asyncio.Event()

    async def hold(_: AsyncConnection) -> None:
        await release.wait()

    holding = asyncio.create_task(store.writer.run(hold))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(store.streams.record_heartbeat(write)) for write in writes]
    await asyncio.sleep(0)
    release.set()
    await holding
    return await asyncio.gather(*tasks, return_exceptions=True)


async def stored_vitals(store: Store, name: str) -> Vitals | None:
    (agent,) = await store.agents.find_agents(name)
    return agent.vitals


@pytest.mark.parametrize("poison", UNSTORABLE.values(), ids=UNSTORABLE.keys())
async def test_one_unstorable_value_refuses_one_write_of_its_group(store: Store, poison: Vitals) -> None:
    """A NUL or an absurd number smuggled past ``convert`` stops nobody else, on either database."""
    generations = await enrol(store, *NAMES)
    results = await record_together(
        store,
        *(
            beat(name, generations[name], vitals=poison if name == VILLAIN else VITALS, facts=FACTS)
            for name in NAMES
        ),
    )
    outcomes = dict(zip(NAMES, results, strict=True))

    assert isinstance(outcomes.pop(VILLAIN), WriteRefusedError)
    assert [True] * 8 == list(outcomes.values())
    assert await stored_vitals(store, VILLAIN) is None
    assert [VITALS] * 8 == [await stored_vitals(store, name) for name in outcomes]


async def test_several_culprits_in_one_group_are_all_found(store: Store) -> None:
    """Taking apart goes on until every part is committed or a single culprit."""
    generations = await enrol(store, *NAMES)
    villains = {"agent-0", "agent-1", "agent-8"}
    poison = replace(VITALS, uptime_s=2**63)
    results = await record_together(
        store,
        *(
            beat(name, generations[name], vitals=poison if name in villains else VITALS, facts=FACTS)
            for name in NAMES
        ),
    )

    assert [name in villains for name in NAMES] == [
        isinstance(result, WriteRefusedError) for result in results
    ]


async def test_two_frames_of_one_agent_in_one_burst_stop_nobody(store: Store) -> None:
    """The second frame waits for the next group instead of failing the first."""
    generations = await enrol(store, *NAMES)
    frames = [beat(name, generations[name]) for name in NAMES]
    second = beat(VILLAIN, generations[VILLAIN], vitals=replace(VITALS, uptime_s=7))

    assert [True] * 10 == await record_together(store, *frames, second)
    assert 7 == getattr(await stored_vitals(store, VILLAIN), "uptime_s", None)


async def test_a_command_that_is_refused_shares_its_group_with_heartbeats(store: Store) -> None:
    """A failed statement in a SAVEPOINT leaves the rest of the transaction whole on PostgreSQL too."""
    generations = await enrol(store, "a")

    async def break_a_rule(connection: AsyncConnection) -> None:
        await connection.execute(sa.text("INSERT INTO workers (id) VALUES ('no lease')"))

    stored, refused, again = await asyncio.gather(
        store.streams.record_heartbeat(beat("a", generations["a"])),
        store.writer.run(break_a_rule),
        store.streams.agent_status("a"),
        return_exceptions=True,
    )

    assert (True, AgentStatus.ACTIVE) == (stored, again)
    assert isinstance(refused, WriteRefusedError)
    assert VITALS == await stored_vitals(store, "a")


async def test_every_kind_of_write_shares_one_group(store: Store) -> None:
    """Openings, heartbeats and closings of different agents are committed together."""
    generations = await enrol(store, "a", "b", "c")
    opened, stored, _ = await asyncio.gather(
        store.streams.open_stream(StreamOpening("a", "key-a", "worker-1", None)),
        store.streams.record_heartbeat(beat("b", generations["b"])),
        store.streams.close_stream(StreamClosing("c", generations["c"])),
    )

    assert (StreamOpened(2), True) == (opened, stored)


@pytest.fixture
async def two_workers(postgres_url: str) -> AsyncIterator[tuple[Store, Store]]:
    """Two servers on one PostgreSQL database, started at the same moment."""
    limits = WriterLimits(commit_share=1.0)
    contexts = [open_store(postgres_url, limits=limits) for _ in range(2)]
    one, two = await asyncio.gather(*(context.__aenter__() for context in contexts))
    yield one, two
    for context in contexts:
        await context.__aexit__(None, None, None)


async def test_an_agent_that_moves_between_two_workers_is_always_somewhere(
    two_workers: tuple[Store, Store],
) -> None:
    """Workers that write the same rows at the same time lose nothing, and do not block one another."""
    generations = await enrol(two_workers[0], *NAMES)

    async def move(store: Store, name: str) -> None:
        opened = await store.streams.open_stream(StreamOpening(name, f"key-{name}", "worker", None))
        assert isinstance(opened, StreamOpened)
        await store.streams.record_heartbeat(beat(name, opened.generation, facts=FACTS))

    await asyncio.gather(*(move(store, name) for _ in range(10) for name in NAMES for store in two_workers))

    for name in NAMES:
        opened = await two_workers[1].streams.open_stream(StreamOpening(name, f"key-{name}", "worker", None))
        assert StreamOpened(generations[name] + 21) == opened


_UPDATES = sa.text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'agents'")


async def tell_statistics(connection: AsyncConnection) -> None:
    await connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))


async def test_a_heartbeat_touches_no_index_of_postgresql(postgres_url: str) -> None:
    """Heartbeats are HOT updates: the one thing every agent writes for ever stays cheap."""
    async with open_store(postgres_url) as store:
        generations = await enrol(store, *NAMES)

        for second in range(20):
            vitals = replace(VITALS, uptime_s=second)
            await asyncio.gather(
                *(
                    store.streams.record_heartbeat(beat(name, generations[name], vitals=vitals))
                    for name in NAMES
                )
            )
        await store.writer.run(tell_statistics)
        async with store.database.reading() as connection:
            updates, hot = (await connection.execute(_UPDATES)).one()

    assert updates >= 20 * len(NAMES)
    assert hot > 0.9 * updates
