"""One run: enrol all agents, connect all, let all beat for a bounded time, and count."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc

from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.virtual_agent import NotServedError, Target, VirtualAgent

R = TypeVar("R")


@dataclass(frozen=True)
class Plan:
    """What a run does. Times in seconds."""

    agents: int
    duration_s: float
    interval_s: float
    """0: a closed loop, the next frame as soon as the reply is there."""
    concurrency: int
    hostname_prefix: str
    seed: int


async def run(target: Target, plan: Plan, progress: Callable[[str], None]) -> Tally:
    """Do it; refusals are counted, not raised."""
    tally, chance = Tally(), random.Random(plan.seed)  # noqa: S311  spreads load, hides nothing
    agents = [VirtualAgent(target, f"{plan.hostname_prefix}-{number:05d}") for number in range(plan.agents)]
    turns = asyncio.Semaphore(plan.concurrency)
    started_s = time.monotonic()
    registered = [agent for agent in await _each(agents, turns, _registered, tally) if agent is not None]
    tally.registration_s, tally.registered = time.monotonic() - started_s, len(registered)
    progress(f"registered {len(registered)} in {tally.registration_s:.1f} s")
    streams = [pair for pair in await _each(registered, turns, _connected, tally) if pair is not None]
    progress(f"connected {len(streams)}")
    started_s = time.monotonic()
    beaten = await asyncio.gather(
        *(
            _beat(agent, stream, plan, started_s=started_s, offset_s=chance.random() * plan.interval_s)
            for agent, stream in streams
        )
    )
    for one in beaten:
        tally.round_trips_s += one.round_trips_s
        tally.failures += one.failures
    tally.beating_s = time.monotonic() - started_s
    await asyncio.gather(*(agent.close() for agent in agents))
    return tally


async def _each(
    agents: Sequence[VirtualAgent],
    turns: asyncio.Semaphore,
    do: Callable[[VirtualAgent], Awaitable[R]],
    tally: Tally,
) -> list[R | None]:
    """Do something with every agent, some at a time; None where it was refused."""

    async def one(agent: VirtualAgent) -> R | None:
        async with turns:
            try:
                return await do(agent)
            except (grpc.aio.AioRpcError, NotServedError) as error:
                tally.failures[_sentence(error)] += 1
                return None

    return await asyncio.gather(*map(one, agents))


async def _registered(agent: VirtualAgent) -> VirtualAgent:
    await agent.register()
    return agent


async def _connected(agent: VirtualAgent) -> tuple[VirtualAgent, grpc.aio.StreamStreamCall[bytes, bytes]]:
    return agent, await agent.connect()


async def _beat(
    agent: VirtualAgent,
    stream: grpc.aio.StreamStreamCall[bytes, bytes],
    plan: Plan,
    *,
    started_s: float,
    offset_s: float,
) -> Tally:
    """Return what one agent's beating came to."""
    tally = Tally()
    try:
        async for round_trip_s in agent.beat(
            stream, until_s=started_s + plan.duration_s, interval_s=plan.interval_s, offset_s=offset_s
        ):
            tally.round_trips_s.append(round_trip_s)
    except (grpc.aio.AioRpcError, NotServedError) as error:
        tally.failures[_sentence(error)] += 1
    return tally


def _sentence(error: grpc.aio.AioRpcError | NotServedError) -> str:
    """Return what failures of one sort have in common."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
