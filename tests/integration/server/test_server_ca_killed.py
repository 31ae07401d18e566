"""Attack by accident: the whole server is killed while a step of the server CA is under way, in each of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from real_server import RealServer
from wire_client import Host
from worker_processes import worker_server

_PATIENCE_S = 60
_STEPS = ("prepare", "activate", "retire")
_REACHED = {"prepare": ["signs", "next"], "activate": ["signs", "before"], "retire": ["signs"]}
pytestmark = pytest.mark.timeout(300)  # processes start again and again, on a machine that may be busy


async def test_a_change_whose_server_is_killed_in_every_step_is_finished_and_each_step_is_in_the_log_once(
    tmp_path: Path,
) -> None:
    """A step is taken or it is not, and the log knows which; an agent of before is served until the old one is retired."""
    data_dir = tmp_path / "server"
    first: Host | None = None
    for step in _STEPS:
        async with worker_server(data_dir, "", 1) as running:
            first = first or await running.server.enrolled("web-1")
            await running.server.wire.beat(first)
            await running.kill_amid(take(running.server, step), [running.process.pid, *running.workers()])
            await asyncio.wait_for(running.process.wait(), _PATIENCE_S)
        async with worker_server(data_dir, "", 1) as running:
            if (
                await roles(running.server) != _REACHED[step]
            ):  # killed before its commit: nothing of it was done
                await take(running.server, step)
            assert await roles(running.server) == _REACHED[step]
    async with worker_server(data_dir, "", 1) as running:
        entries = await running.server.ask("GET", "/v1/audit?limit=100")
        keys = [path.name for path in data_dir.glob("server-ca*.key")]

    actions = Counter(each["action"] for each in entries if each["action"].startswith("server_ca."))
    assert actions == {"server_ca.prepared": 1, "server_ca.activated": 1, "server_ca.retired": 1}
    assert keys == ["server-ca-2.key"]


async def take(server: RealServer, step: str) -> Any:
    """Take a step, whatever can be forced."""
    return await server.ask("POST", f"/v1/server-ca/{step}", {"actor": "test", "force": True})


async def roles(server: RealServer) -> list[str]:
    """Return what the server CAs do."""
    return [each["role"] for each in (await server.ask("GET", "/v1/server-ca"))["authorities"]]
