"""A host that falls silent without closing anything: its machine hangs, or its network is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from real_server import RealServer, real_server, settings_for, tighter


async def only_agent(server: RealServer) -> dict[str, Any]:
    """Return the one agent there is, or nothing."""
    agents = await server.ask("GET", "/v1/agents")
    return dict(agents[0]) if agents else {}


async def until_online(server: RealServer, *, online: bool) -> None:
    """Wait until the host is what it should be."""
    async with asyncio.timeout(20):
        while (await only_agent(server)).get("online") is not online:  # noqa: ASYNC110  no event to wait for
            await asyncio.sleep(0.05)


async def test_a_stopped_agent_goes_offline_and_comes_back_when_it_goes_on(tmp_path: Path) -> None:
    """Its connection stays open and no frame comes: offline. It goes on: online again by itself."""
    limits = tighter(silence_s=2.0)
    async with real_server(settings_for(tmp_path / "server"), limits) as server:
        environ = {
            "PATH": os.environ["PATH"],
            "CT_OPS_ENROLMENT_TOKEN": await server.token(),
            "CT_OPS_DATA_DIR": str(tmp_path / "agent"),
            "CT_OPS_HEARTBEAT_INTERVAL_SECS": "1",
        }
        agent = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ct_ops_agent", "run", env=environ, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await until_online(server, online=True)
            agent.send_signal(signal.SIGSTOP)
            await until_online(server, online=False)
            agent.send_signal(signal.SIGCONT)
            await until_online(server, online=True)
        finally:
            agent.kill()
            await agent.wait()
