"""A hurry with real TLS: an existing agent is pushed a leaf and comes back with it, ours renews on its stream."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from agent_world import World, eventually, living, new_world, until_more
from wire_client import HeartbeatStream, Host, next_reply


async def rotate(world: World, *steps: str) -> None:
    """Take steps of the agent CA, each when every worker has taken up the one before."""
    for name in steps:
        async with asyncio.timeout(30):
            while True:
                done = await take(world, name)
                if "error" not in done:
                    break
                await asyncio.sleep(0.05)


async def take(world: World, name: str) -> dict[str, Any]:
    """Try to take a step."""
    plan = await world.server.ask("GET", "/v1/authority/ca/next")
    body = {"actor": "test", "version": plan["version"], "force": True}
    return dict(await world.server.ask("POST", f"/v1/authority/ca/{name}", body))


async def hurry(world: World) -> dict[str, Any]:
    """Return how the hurry is."""
    return dict((await world.server.ask("GET", "/v1/hurry"))["hurry"])


async def pushed_leaf(stream: HeartbeatStream, host: Host) -> str:
    """Beat until a leaf is pushed; return it."""
    async with asyncio.timeout(60):
        while True:
            reply = await next_reply(stream)
            if reply.pending_client_cert_pem:
                assert reply.agent_ca_cert_pem
                assert not reply.renew_leaf
                return reply.pending_client_cert_pem
            await stream.write(host.first_frame())


async def test_existing_agents_and_ours_have_leaves_of_the_new_agent_ca_in_a_hurry(tmp_path: Path) -> None:
    """The existing agent goes away and comes back with the leaf it was pushed; ours asks for one and stays itself."""
    async with new_world(tmp_path) as world:
        agent_id = await world.once(world.config)
        host = Host("old-host")
        await world.server.wire.register(host, await world.server.token())
        if not host.leaf_pem:
            await world.server.decide(host, "approve")
            await world.server.wire.register(host, "")
        leaf = world.config.data_dir / "agent_cert.pem"
        before = leaf.read_text()
        async with (
            living(world.without_token, world.agent_clock) as agent,
            world.server.wire.connect(host) as stub,
        ):
            await until_more(agent)
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            await next_reply(stream)
            await rotate(world, "prepare", "activate")
            await world.server.ask("POST", "/v1/hurry", {"actor": "test"})

            host.leaf_pem = await pushed_leaf(stream, host)
            stream.cancel()
            await eventually(lambda: leaf.read_text() != before, agent)
            await until_more(agent)
            async with world.server.wire.connect(host) as again:
                back = again.Heartbeat()
                await back.write(host.first_frame())
                await next_reply(back)
                async with asyncio.timeout(60):
                    while (await hurry(world))["state"] != "done":
                        agent.due.set()
                        await asyncio.sleep(0.1)
                found = await hurry(world)
                assert (2, 2, 0) == (found["asked"], found["back"], found["remaining"])
                back.cancel()
        shown = await world.server.ask("GET", f"/v1/agents/{agent_id}")
        assert shown["status"] == "active"
