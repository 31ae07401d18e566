"""The load tool over real TLS: what it counts is what happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import pytest

from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.run import Plan, run
from ct_ops_loadtest.virtual_agent import Target
from fakes.conforming_server import ConformingServer, conforming_server

CLOSED_LOOP = Plan(agents=3, duration_s=0.2, interval_s=0, concurrency=2, hostname_prefix="load", seed=1)
TEN_MINUTES = Plan(agents=3, duration_s=600, interval_s=0.3, concurrency=2, hostname_prefix="load", seed=1)


@pytest.fixture
async def server() -> AsyncIterator[ConformingServer]:
    async with conforming_server() as running:
        yield running


async def loaded(
    server: ConformingServer, plan: Plan, progress: Callable[[str], None] = lambda _: None
) -> Tally:
    return await run(Target(server.address, server.server_ca.pem.encode(), "tok_opaque"), plan, progress)


async def test_virtual_agents_enrol_and_beat(server: ConformingServer) -> None:
    """Each with its own key and leaf; every round trip is a frame that the server has seen."""
    said: list[str] = []
    tally = await loaded(server, CLOSED_LOOP, said.append)

    assert (3, {}) == (tally.registered, dict(tally.failures))
    assert 3 == len({bytes(agent.public_key) for agent in server.agents.values()})
    assert len(server.frames) == len(tally.round_trips_s) + 3  # the first of each stream carries the token
    assert "connected 3" == said[-1]


async def test_a_refused_token_is_counted_once_an_agent(server: ConformingServer) -> None:
    """With the server's own sentence."""
    server.script.tokens.clear()
    tally = await loaded(server, CLOSED_LOOP)

    assert {"UNAUTHENTICATED: invalid or expired enrolment token": 3} == dict(tally.failures)


async def test_a_token_that_does_not_approve_is_named(server: ConformingServer) -> None:
    """Nobody waits for an operator in a load test."""
    server.script.auto_approve = False
    tally = await loaded(server, CLOSED_LOOP)

    assert {"registered as pending without a leaf: use an auto-approving token": 3} == dict(tally.failures)


async def test_a_stream_that_ends_between_two_frames_is_counted_with_its_reason(
    server: ConformingServer,
) -> None:
    """The server is restarted while agents wait for their next turn: what was measured, and no traceback."""
    loading = asyncio.create_task(loaded(server, TEN_MINUTES))
    await server.wait_until(lambda: len(server.frames) >= 9)
    server.end_streams(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
    tally = await loading

    assert {"UNAVAILABLE: the server is stopping": 3} == dict(tally.failures)
    assert len(tally.round_trips_s) >= 1
