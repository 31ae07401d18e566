"""An agent that works, in this process: heartbeat, outbox and workshop, as the daemon runs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ct_ops_agent.assembly import built_agent
from ct_ops_agent.clock import Clock
from ct_ops_agent.config.schema import AgentConfig


@dataclass
class WorkingAgent:
    """What a test may do to it."""

    due: asyncio.Event

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let heartbeats be due until something holds."""
        async with asyncio.timeout(20):
            while not condition():
                self.due.set()
                await asyncio.sleep(0.02)


async def _hurry(_seconds: float) -> None:
    await asyncio.sleep(0.02)


@asynccontextmanager
async def working_agent(config: AgentConfig) -> AsyncIterator[WorkingAgent]:
    """Run it until the end of the block; its waits are short."""
    due = asyncio.Event()
    with built_agent(config, due, Clock(sleep=_hurry)) as agent:
        assert agent.workshop is not None
        assert agent.courier is not None
        running = [asyncio.create_task(part.run()) for part in (agent.workshop, agent.lifecycle)]
        try:
            yield WorkingAgent(due)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await agent.courier.finish()
