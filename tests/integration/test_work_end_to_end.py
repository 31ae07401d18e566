"""Our agent and our server: questions are answered, the software comes home, and crashes lose and repeat nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_world import World, new_world
from check_peers import listening, silence
from ct_ops_agent.collectors import software
from ct_ops_agent.tasks import inventory
from ct_ops_server.config.schema import Settings
from working_agent import working_agent

HANGING_AGENT = """
import sys, threading
from ct_ops_agent.collectors import software
software.read_packages = lambda: threading.Event().wait(60)
from ct_ops_agent.cli import main
sys.exit(main())
"""
"""An agent whose package manager does not answer."""


@pytest.fixture
async def world(tmp_path: Path, settings: Settings) -> AsyncIterator[World]:
    """A server on each database, and an agent that is enrolled."""
    async with new_world(tmp_path, settings) as made:
        await made.once(made.config)
        yield made


@asynccontextmanager
async def hanging_agent(world: World) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a hanging agent as a process of its own; it is gone at the end of the block."""
    environment = {
        "PATH": os.environ["PATH"],
        "CT_OPS_DATA_DIR": str(world.config.data_dir),
        "CT_OPS_INGEST_ADDRESS": world.config.address or "",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HANGING_AGENT, "run", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def give(world: World) -> str:
    body = {"actor": "ada", "type": "software_inventory"}
    return str((await world.server.ask("POST", "/v1/agents/host-1/tasks", body))["id"])


async def task_when(world: World, task_id: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return a task when something holds of it."""
    async with asyncio.timeout(60):
        while not is_so(found := dict(await world.server.ask("GET", f"/v1/tasks/{task_id}"))):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def until_online(world: World) -> None:
    async with asyncio.timeout(60):
        while not (await world.shown())["online"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def ended(world: World, task_id: str) -> dict[str, Any]:
    return await task_when(
        world, task_id, lambda task: task["state"] in {"done", "failed", "interrupted", "cancelled"}
    )


async def test_queries_are_answered_by_the_host(world: World) -> None:
    """On the live stream, at once."""
    async with listening(silence) as port, working_agent(world.without_token):
        await until_online(world)
        asked = await world.server.ask(
            "POST", "/v1/agents/host-1/queries", {"actor": "ada", "type": "list_ports"}
        )
        answer = await world.server.ask("GET", f"/v1/queries/{asked['id']}?wait_s=20")

    assert "answered" == answer["state"], answer
    assert port in [each["port"] for each in answer["ports"]]


async def test_the_software_of_the_host_is_stored(world: World) -> None:
    """Every package, with the output of the task and its result."""
    expected = software.read_packages()
    async with working_agent(world.without_token):
        task = await ended(world, await give(world))
    packages = await world.server.ask("GET", "/v1/agents/host-1/packages")

    assert ("done", 1) == (task["state"], task["attempt"]), task
    assert len({(each.name, each.version, each.architecture) for each in expected.packages}) == len(packages)
    assert f"{len(expected.packages)} packages of {expected.source}" in str(task["output"])


async def test_a_killed_agents_task_is_done_by_the_next_attempt(world: World) -> None:
    """SIGKILL between acceptance and result: interrupted, told by the next process, and tried again as attempt 2."""
    async with hanging_agent(world):
        task_id = await give(world)
        await task_when(world, task_id, lambda task: task["state"] == "running")
    async with working_agent(world.without_token):
        task = await ended(world, task_id)

    assert ("done", 2) == (task["state"], task["attempt"]), task


async def test_what_hangs_on_the_host_does_not_delay_the_stop(world: World) -> None:
    """SIGTERM ends the agent while its task waits for a package manager that does not answer for a minute."""
    async with hanging_agent(world) as process:
        task_id = await give(world)
        await task_when(world, task_id, lambda task: task["state"] == "running")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            code = await process.wait()

    assert 0 == code


async def test_a_task_waits_for_its_host(world: World) -> None:
    """Given while the host is offline, done when it comes."""
    task_id = await give(world)
    async with working_agent(world.without_token):
        task = await ended(world, task_id)

    assert ("done", 1) == (task["state"], task["attempt"]), task


async def test_a_failure_is_told_to_the_operator(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text arrives, and nothing of what the server has is changed."""
    nothing = inventory.Packages("dpkg", [])
    monkeypatch.setattr("ct_ops_agent.workshop.read_packages", lambda: nothing)
    async with working_agent(world.without_token):
        task = await ended(world, await give(world))
    packages = await world.server.ask("GET", "/v1/agents/host-1/packages")

    assert ("failed", []) == (task["state"], packages)
    assert "names no installed package" in task["error"]
