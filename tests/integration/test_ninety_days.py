"""Ninety days in the life of one agent, and what befalls it and its server. Both are real; the time is not."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from agent_world import World, live, living, until_more, until_other_text
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_proto.enrolment_token import parse_token
from ct_ops_server.config.schema import Settings
from real_server import real_server, settings_for

START = datetime.now(UTC) - timedelta(days=200)
"""Long enough ago: the TLS library on the agent's side knows no clock but the real one."""


@dataclass
class Site:
    """Where server and agent live between their lives."""

    folder: Path
    clock: list[datetime]
    settings: Settings

    def day(self, number: float) -> None:
        """Let it be that day."""
        now = START + timedelta(days=number)
        assert now > self.clock[0]
        self.clock[0] = now

    @asynccontextmanager
    async def up(self, config: AgentConfig) -> AsyncIterator[World]:
        """Run the server, always on the same port."""
        async with real_server(self.settings, now=lambda: self.clock[0]) as server:
            if not self.settings.grpc_port:
                self.settings = replace(self.settings, grpc_port=server.wire.port)
            yield World(server, config, self.clock)

    def back_up(self) -> None:
        """Copy the server's data directory while nothing writes to it."""
        shutil.copytree(
            self.settings.data_dir, self.folder / "backup", ignore=shutil.ignore_patterns("*.sock")
        )

    def restore(self) -> None:
        """Replace the server by what the backup holds."""
        shutil.rmtree(self.settings.data_dir)
        shutil.copytree(self.folder / "backup", self.settings.data_dir)


async def heartbeats(world: World) -> None:
    """Start the daemon and let it live for some heartbeats."""
    await live(world.config, until=3, clock=world.agent_clock)


async def assert_enrolled_and_online(world: World, agent_id: str) -> None:
    async with living(world.config, world.agent_clock) as agent:
        await until_more(agent)
        shown = await world.shown()
    assert (agent_id, "active", True) == (shown["id"], shown["status"], shown["online"])


async def test_ninety_days_end_enrolled_and_online(tmp_path: Path) -> None:
    """25 h off, the token removed, a new server certificate, months off, a server from last month's backup."""
    site = Site(tmp_path, [START], settings_for(tmp_path / "server"))
    unenrolled = AgentConfig(
        address=None, ca_cert_file=None, tls_skip_verify=False, enrolment_token=None,
        data_dir=tmp_path / "agent", heartbeat_interval=timedelta(seconds=30), tags=(), hostname="host-1",
    )  # fmt: skip
    leaf = unenrolled.data_dir / "agent_cert.pem"

    async with site.up(unenrolled) as world:
        token = parse_token(await world.server.token(max_uses=1))
        agent_id = await world.once(replace(unenrolled, enrolment_token=token))
        await heartbeats(world)
        # The token is taken out of the configuration; from now on there is none.
        site.day(25 / 24)  # the host was off for 25 hours: its agent token has expired
        await assert_enrolled_and_online(world, agent_id)

    site.day(10)
    site.back_up()
    (site.settings.data_dir / "server.crt").unlink()  # a new server certificate, by the same authority
    async with site.up(unenrolled) as world:
        await assert_enrolled_and_online(world, agent_id)
        first_leaf = leaf.read_text()
        site.day(56)  # past half of the leaf's life, whatever its jitter
        async with living(world.config, world.agent_clock) as agent:
            await until_other_text(leaf, first_leaf, agent)
            await until_more(agent)

    site.restore()  # it has never heard of the leaf that the agent holds, nor of a month of heartbeats
    site.day(60)
    async with site.up(unenrolled) as world:
        await assert_enrolled_and_online(world, agent_id)
        expires = x509.load_pem_x509_certificate(leaf.read_bytes()).not_valid_after_utc
        world.clock[0] = expires + timedelta(days=1)  # months in a cupboard: the leaf has expired too
        await assert_enrolled_and_online(world, agent_id)
        (agent_shown,) = await world.server.ask("GET", "/v1/agents")

    assert timedelta(days=90) < site.clock[0] - START
    assert "host-1" == agent_shown["hostname"]
