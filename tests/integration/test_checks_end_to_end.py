"""Our agent and our server: a check is defined, runs on the host, its results come home, and it stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from agent_world import World, new_world
from ct_ops_agent.assembly import built_agent
from ct_ops_server.authority.sealing import load_key, load_or_create_secret
from ct_ops_server.config.schema import Settings


@pytest.fixture
async def world(tmp_path: Path, settings: Settings) -> AsyncIterator[World]:
    """A server on each database, and an agent that is enrolled."""
    async with new_world(tmp_path, settings) as made:
        await made.once(made.config)
        yield made


@asynccontextmanager
async def running_agent(world: World) -> AsyncIterator[None]:
    """Run the agent's work and its heartbeat in this process."""
    with built_agent(world.without_token, asyncio.Event()) as agent:
        assert agent.workshop is not None
        tasks = [asyncio.create_task(part.run()) for part in (agent.workshop, agent.lifecycle)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


async def first_result(world: World, check_id: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while not (found := await results(world, check_id)):  # noqa: ASYNC110  nor has the server
            await asyncio.sleep(0.05)
    return found[0]


async def until_running(world: World, ids: set[str]) -> None:
    async with asyncio.timeout(30):
        while running_on_host(world) != ids:  # noqa: ASYNC110  the host has no event to wait for
            await asyncio.sleep(0.05)


async def define(world: World, check_type: str, **config: Any) -> str:
    body = {"actor": "ada", "type": check_type, "config": config}
    return str((await world.server.ask("POST", "/v1/agents/host-1/checks", body))["id"])


async def results(world: World, check_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await world.server.ask("GET", f"/v1/check-results/{check_id}")
    return found


def running_on_host(world: World) -> set[str]:
    """Return the ids of the checks that the agent keeps running, also over a restart."""
    return {each["id"] for each in json.loads((world.config.data_dir / "checks.json").read_text())}


async def test_a_check_runs_its_results_come_home_and_the_last_one_stops(world: World) -> None:
    """An open port passes, a closed one fails; what is removed runs no more, the last one too."""
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, running_agent(world):
        opened = await define(world, "port", host="127.0.0.1", port=port)
        closed = await define(world, "port", host="127.0.0.1", port=1)
        found = [await first_result(world, check_id) for check_id in (opened, closed)]
        await world.server.ask("DELETE", f"/v1/checks/{opened}", {"actor": "ada"})
        await until_running(world, {closed})
        await world.server.ask("POST", f"/v1/checks/{closed}/disable", {"actor": "ada"})
        await until_running(world, set())

    assert ["pass", "fail"] == [each["status"] for each in found]
    assert f"port {port} reachable" in found[0]["output"]


async def test_a_key_store_is_opened_with_the_password_that_was_sealed_on_the_server(
    world: World, tmp_path: Path
) -> None:
    """From the operator through the database to the host, and nowhere to be seen on the way."""
    data_dir = world.server.settings.data_dir
    key = load_key(data_dir / "server.key", load_or_create_secret(data_dir / "secret"))
    store = tmp_path / "store.p12"
    chain = (data_dir / "server.crt").read_bytes()
    store.write_bytes(_key_store(key, chain))
    async with running_agent(world):
        right = await define(world, "cert_file", file_path=str(store), format="pkcs12", password="hunter2")
        wrong = await define(world, "cert_file", file_path=str(store), format="pkcs12", password="hunter3")
        found = [await first_result(world, check_id) for check_id in (right, wrong)]
    shown = await world.server.ask("GET", "/v1/checks")

    assert ["pass", "error"] == [each["status"] for each in found]
    assert "hunter" not in json.dumps([shown, found])


def _key_store(key: Any, chain_pem: bytes) -> bytes:
    certificate = x509.load_pem_x509_certificate(chain_pem)
    return pkcs12.serialize_key_and_certificates(
        b"app", key, certificate, None, BestAvailableEncryption(b"hunter2")
    )
