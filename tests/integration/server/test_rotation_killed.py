"""Attack by accident: the whole server is killed while a step is under way, again and again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from real_server import RealServer
from wire_client import Host
from worker_processes import worker_server

_PATIENCE_S = 60
pytestmark = pytest.mark.timeout(300)  # processes start again and again, on a machine that may be busy

_EXPECTED = [
    ["active", "prepared"],
    ["outgoing", "active"],
    ["retired", "active"],
]


async def test_a_rotation_whose_server_is_killed_in_every_step_is_finished_by_the_next_one(
    tmp_path: Path,
) -> None:
    """A step is taken or it is not; agents of both CAs are served after each start, until one is retired."""
    data_dir = tmp_path / "server"
    first: Host | None = None
    for expected in _EXPECTED:
        async with worker_server(data_dir, "", 1) as running:
            first = first or await running.server.enrolled("web-1")
            await running.server.wire.beat(first)
            await running.kill_amid(take(running.server), [running.process.pid, *running.workers()])
            await asyncio.wait_for(running.process.wait(), _PATIENCE_S)
        reached = expected
    async with worker_server(data_dir, "", 1) as running:
        # By force, so without waiting for the leases of the killed ones to end.
        for _ in _EXPECTED:  # those that were killed before their commit: nothing of them was done
            if await states(running.server) != reached:
                await take(running.server)
        assert reached == await states(running.server)
        async with asyncio.timeout(_PATIENCE_S):
            while (data_dir / "agent-ca.key").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_rotation_goes_on_while_a_worker_is_killed(postgres_url: str, tmp_path: Path) -> None:
    """In the activation: the other one serves, and the one that takes its place acts by the latest step."""
    async with worker_server(tmp_path / "server", postgres_url, 2) as running:
        server = running.server
        first = await server.enrolled("web-1")
        await take(server)
        await until_nobody_is_behind(server)
        before = running.workers()
        await running.kill_amid(take(server), before[:1])
        await running.until_replaced(before[:1])
        await until_nobody_is_behind(server)
        if await states(server) == _EXPECTED[0]:
            await take(server)
            await until_nobody_is_behind(server)
        assert _EXPECTED[1] == await states(server)
        for host in (first, await server.enrolled("newcomer")):
            await server.wire.beat(host)


async def take(server: RealServer) -> Any:
    """Take the next step, whatever can be forced."""
    plan = await server.ask("GET", "/v1/authority/ca/next")
    body = {"actor": "test", "version": plan["version"], "force": True}
    return await server.ask("POST", f"/v1/authority/ca/{plan['step']}", body)


async def states(server: RealServer) -> list[str]:
    return [each["state"] for each in (await server.ask("GET", "/v1/authority"))["authorities"]]


async def until_nobody_is_behind(server: RealServer) -> None:
    """Wait until every worker acts by the latest step, the killed ones being forgotten."""
    async with asyncio.timeout(_PATIENCE_S):
        while await workers_behind(server):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def workers_behind(server: RealServer) -> int:
    """Return how many have not taken up the latest step; one when the worker that was asked is killed."""
    try:
        return len((await server.ask("GET", "/v1/authority"))["workers_behind"])
    except httpx.HTTPError:
        return 1
