"""Our agent beside our server, both real and in this process, by one clock that the test holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ct_ops_agent.assembly import built_lifecycle
from ct_ops_agent.clock import Clock
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.daemon import run_once
from ct_ops_proto.enrolment_token import parse_token
from ct_ops_server.config.schema import Settings
from real_server import RealServer, real_server, settings_for


@dataclass
class World:
    """A server, an agent's configuration, and the time of both."""

    server: RealServer
    config: AgentConfig
    clock: list[datetime]

    def later(self, **span: float) -> None:
        """Let time pass for both."""
        self.clock[0] += timedelta(**span)

    @property
    def without_token(self) -> AgentConfig:
        """The configuration after the token was taken out of it."""
        return replace(self.config, enrolment_token=None)

    @property
    def agent_clock(self) -> Clock:
        """The agent's clock, whose waits are short."""

        def wall() -> float:
            return self.clock[0].timestamp()

        async def hurry(_seconds: float) -> None:
            await asyncio.sleep(0.01)

        return Clock(wall=wall, sleep=hurry)

    async def once(self, config: AgentConfig | None = None) -> str:
        """Start the agent for one heartbeat; return its id."""
        return (await run_once(config or self.without_token, self.agent_clock)).identity.agent_id

    async def shown(self) -> dict[str, object]:
        """Return what operators see of the one agent."""
        (found,) = await self.server.ask("GET", "/v1/agents")
        return dict(found)


@asynccontextmanager
async def new_world(folder: Path, settings: Settings | None = None) -> AsyncIterator[World]:
    """Run a new server and configure an agent that may enrol there once."""
    clock = [datetime.now(UTC)]
    async with real_server(settings or settings_for(folder / "server"), now=lambda: clock[0]) as server:
        token = await server.token(max_uses=1)
        config = AgentConfig(
            address=f"127.0.0.1:{server.wire.port}",
            ca_cert_file=None,
            tls_skip_verify=False,
            enrolment_token=parse_token(token),
            data_dir=folder / "agent",
            heartbeat_interval=timedelta(seconds=30),
            tags=(),
            hostname="host-1",
        )
        yield World(server, config, clock)


async def live(config: AgentConfig, *, until: int, clock: Clock | None = None) -> None:
    """Run the daemon's lifecycle, waits cut short, until so many heartbeats were acknowledged."""
    async with living(config, clock) as agent:
        async with asyncio.timeout(20):
            while agent.acknowledged < until:
                agent.due.set()
                await asyncio.sleep(0.02)


@dataclass
class Living:
    """An agent alive in this process."""

    due: asyncio.Event
    acknowledged: int = 0


@asynccontextmanager
async def living(config: AgentConfig, clock: Clock | None = None) -> AsyncIterator[Living]:
    """Run an agent whose waits are cut short."""

    async def hurry(_seconds: float) -> None:
        await asyncio.sleep(0.01)

    agent = Living(asyncio.Event())
    with built_lifecycle(config, agent.due, clock or Clock(sleep=hurry)) as lifecycle:
        counted = lifecycle.acknowledged

        def count(news: object) -> None:
            agent.acknowledged += 1
            counted(news)  # type: ignore[arg-type]  # handed on as it came

        lifecycle.acknowledged = count  # type: ignore[method-assign]  # watched, not replaced
        task = asyncio.create_task(lifecycle.run())
        try:
            yield agent
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def eventually(condition: Callable[[], bool], agent: Living) -> None:
    """Let heartbeats be due until a condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            agent.due.set()
            await asyncio.sleep(0.02)


async def until_more(agent: Living) -> None:
    """Let heartbeats be due until two more are acknowledged."""
    seen = agent.acknowledged
    await eventually(lambda: agent.acknowledged > seen + 1, agent)


async def until_other_text(path: Path, before: str, agent: Living) -> None:
    """Let heartbeats be due until a file has another content."""
    await eventually(lambda: path.read_text() != before, agent)
