"""Enrolment by files that are carried: the commands of both halves, real TLS afterwards, both databases."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_world import live
from ct_ops_agent.cli.enrol import install_reply, write_request
from ct_ops_agent.config.schema import AgentConfig
from real_server import RealServer


def config_of(folder: Path, hostname: str = "island-1") -> AgentConfig:
    """Return the configuration of a host that was told nothing."""
    return AgentConfig(
        address=None,
        ca_cert_file=None,
        tls_skip_verify=False,
        enrolment_token=None,
        data_dir=folder / "agent",
        heartbeat_interval=timedelta(seconds=30),
        tags=(),
        hostname=hostname,
    )


@dataclass
class Stick:
    """A stick that is carried between a host and a server."""

    folder: Path
    config: AgentConfig
    server: RealServer

    @property
    def request(self) -> Path:
        return self.folder / "island-1.json"

    @property
    def reply(self) -> Path:
        return self.folder / "island-1.reply.json"

    async def sign(self, *options: str) -> tuple[int, str, str]:
        """Run ``ct-ops-server enrol sign`` beside the running server."""
        environment = {
            "PATH": os.environ["PATH"],
            "INGEST_DATA_DIR": str(self.server.settings.data_dir),
            "DATABASE_URL": self.server.settings.database_url,
        }
        arguments = ("enrol", "sign", str(self.request), "-o", str(self.reply), *options)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ct_ops_server",
            *arguments,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        return process.returncode or 0, output.decode(), errors.decode()

    async def agent(self) -> dict[str, Any]:
        """Return what operators see of the only agent."""
        (found,) = await self.server.ask("GET", "/v1/agents")
        shown: dict[str, Any] = await self.server.ask("GET", f"/v1/agents/{found['id']}")
        return shown


@pytest.fixture
def stick(tmp_path: Path, server: RealServer) -> Stick:
    folder = tmp_path / "stick"
    folder.mkdir()
    return Stick(folder, config_of(tmp_path), server)


async def test_a_host_enrols_by_sneakernet_and_its_first_stream_is_accepted(stick: Stick) -> None:
    """Request, signature, reply: then heartbeats are stored over mTLS, without any token."""
    write_request(stick.config, stick.request)
    code, said, _ = await stick.sign("--approve", "--tag", "site:island")
    _, admission = install_reply(stick.config, stick.reply, "")
    await live(stick.config, until=1)
    agent = await stick.agent()

    assert (0, True) == (code, admission.identity.agent_id in said)
    assert ("island-1", {"site": "island"}) == (agent["hostname"], agent["tags"])
    assert agent["vitals"]
    assert 0o600 == stat.S_IMODE(stick.reply.stat().st_mode)
