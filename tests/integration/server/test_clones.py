"""Clones, end to end: a real server on both databases, our agents, and agents of the other implementation."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ct_ops_agent.assembly import built_agent
from ct_ops_agent.clock import Clock
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.daemon import run_once
from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.enrolment_token import parse_token
from databases import PostgresServer, migrated_database
from putting_agent import config_for
from real_server import RealServer, two_servers
from wire_client import Host, next_reply, reason_of

if TYPE_CHECKING:
    from ct_ops_proto.agent.v1.ingest_pb2_grpc import IngestServiceAsyncStub

pytestmark = pytest.mark.timeout(180)


async def eventually(condition: Callable[[], Awaitable[object]]) -> Any:
    """Wait until a condition holds; return what it said."""
    async with asyncio.timeout(60):
        while not (said := await condition()):  # noqa: ASYNC110 - it is a question to a server
            await asyncio.sleep(0.05)
    return said


@asynccontextmanager
async def running(config: AgentConfig) -> AsyncIterator[None]:
    """Run our agent, its waits cut short, with a heartbeat every tenth of a second."""

    async def hurry(_seconds: float) -> None:
        await asyncio.sleep(0.05)

    due = asyncio.Event()

    async def beat() -> None:
        while True:
            due.set()
            await asyncio.sleep(0.1)

    with built_agent(config, due, Clock(sleep=hurry)) as agent:
        assert agent.workshop is not None
        parts = [asyncio.create_task(part) for part in (agent.workshop.run(), agent.lifecycle.run(), beat())]
        try:
            yield
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)


async def enrolled(server: RealServer, data_dir: Path) -> AgentConfig:
    """Enrol ours, whose token is taken out of its configuration then."""
    config = config_for(data_dir, f"127.0.0.1:{server.wire.port}")
    await run_once(replace(config, enrolment_token=parse_token(await server.token(max_uses=1))))
    return config


async def quarantined(server: RealServer) -> dict[str, Any] | None:
    """Return the one agent in quarantine, if it is."""
    found: list[dict[str, Any]] = await server.ask("GET", "/v1/clones")
    return found[0] if found else None


async def test_a_copied_data_directory_is_quarantined_and_split(server: RealServer, tmp_path: Path) -> None:
    """Both say so; after the split the original goes on with a new key, and the copy is another agent."""
    config = await enrolled(server, tmp_path / "agent")
    copied = replace(config, data_dir=tmp_path / "copy", hostname="the-copy")
    shutil.copytree(config.data_dir, copied.data_dir, ignore=shutil.ignore_patterns("*.lock", "*.sock"))
    (agent,) = await server.ask("GET", "/v1/agents")
    async with AsyncExitStack() as both:
        await both.enter_async_context(running(config))
        await eventually(lambda: _are_online(server, 1))  # the original is the one that was there first
        await both.enter_async_context(running(copied))
        clone = await eventually(lambda: quarantined(server))
        await eventually(lambda: _says_quarantined(config))
        await eventually(lambda: _says_quarantined(copied))
        body = {"actor": "test"}
        await server.ask("POST", f"/v1/agents/{agent['id']}/split", body)
        await eventually(lambda: _has_other_key(server, agent))
        copy = await eventually(lambda: _the_copy(server))
        await server.ask("POST", f"/v1/agents/{copy['id']}/approve", {"actor": "test"})
        await eventually(lambda: _are_online(server, 2))
    kept = await server.ask("GET", f"/v1/agents/{agent['id']}")

    assert {"host-1": True, "the-copy": False} == {
        side["hostname"]: side["likely_original"] for side in clone["sides"] if side["alive"]
    }
    assert "two_processes" == clone["proof"]
    assert f"was a copy of agent {agent['id']}" == copy["evidence"]
    assert ["active", "quarantined", "active"] == [each["status"] for each in kept["history"]][:3]


async def _says_quarantined(config: AgentConfig) -> bool:
    path = config.data_dir / "status.json"
    text = await asyncio.to_thread(lambda: path.read_text() if path.exists() else "{}")
    return "quarantined" in json.dumps(json.loads(text))


async def _has_other_key(server: RealServer, before: dict[str, Any]) -> bool:
    now = await server.ask("GET", f"/v1/agents/{before['id']}")
    is_other: bool = now["key_id"] != before["key_id"]
    return is_other and bool(now["online"])


async def _the_copy(server: RealServer) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = await server.ask("GET", "/v1/agents?status=pending")
    return found[0] if found else None


async def _are_online(server: RealServer, count: int) -> bool:
    shown = await server.ask("GET", "/v1/agents")
    return len([agent for agent in shown if agent["online"]]) == count


def frame_of_side(host: Host, number: int) -> wire.HeartbeatRequest:
    """Return the first frame of an existing agent on one of several machines."""
    mac = f"52:54:00:00:{number // 256:02x}:{number % 256:02x}"
    values = wire.HeartbeatRequest(
        uptime_seconds=1_000 + 1_000 * number,
        network_interfaces=[wire.NetworkInterface(name="eth0", mac_address=mac, is_up=True)],
    )
    return host.first_frame(values)


async def take_over(server: RealServer, host: Host, number: int, keep: AsyncExitStack) -> str:
    """Open a stream from one machine and leave it open; return why it was refused, or nothing."""
    return await open_stream(await keep.enter_async_context(server.wire.connect(host)), host, number)


async def open_stream(stub: IngestServiceAsyncStub, host: Host, number: int) -> str:
    """Open a stream on a connection that is there."""
    stream = stub.Heartbeat()
    await stream.write(frame_of_side(host, number))
    try:
        await next_reply(stream)
    except (grpc.aio.AioRpcError, AssertionError):
        return str(dict(await stream.trailing_metadata() or ()).get("ct-ops-reason", ""))
    return ""


async def test_to_existing_agents_a_quarantine_looks_like_pending(sqlite_server: RealServer) -> None:
    """A live stream ends with a status over which they keep their state; Register keeps them waiting."""
    server = sqlite_server
    host = await server.enrolled("web-1")
    async with AsyncExitStack() as keep:
        refused = [await take_over(server, host, number, keep) for number in (0, 1, 0, 1)]
        stub = await keep.enter_async_context(server.wire.connect(host))
        answer = await stub.Register(host.request(await server.token()), timeout=20)
        with pytest.raises(grpc.aio.AioRpcError) as renewal:
            await stub.RenewCertificate(
                wire.RenewCertificateRequest(agent_id=host.agent_id, csr_der=host.request("").csr_der),
                timeout=20,
            )

    assert ["", "", "", "quarantined"] == refused
    assert ("pending", host.agent_id, "") == (answer.status, answer.agent_id, answer.jwt_token)
    assert (grpc.StatusCode.FAILED_PRECONDITION, "quarantined") == (
        renewal.value.code(),
        reason_of(renewal.value),
    )


async def test_a_stream_that_is_open_ends_so_that_an_existing_agent_keeps_its_state(
    sqlite_server: RealServer,
) -> None:
    """FAILED_PRECONDITION: it stays quiet and backs off (rule 10)."""
    server = sqlite_server
    host = await server.enrolled("web-1")
    async with AsyncExitStack() as keep:
        for number in (0, 1):
            await take_over(server, host, number, keep)
        stub = await keep.enter_async_context(server.wire.connect(host))
        stream = stub.Heartbeat()
        await stream.write(frame_of_side(host, 0))
        await next_reply(stream)
        assert "quarantined" == await take_over(server, host, 1, keep)
        async with asyncio.timeout(20):
            code = await stream.code()

    assert grpc.StatusCode.FAILED_PRECONDITION == code


async def test_a_template_cloned_400_times_hurts_nobody_else(sqlite_server: RealServer) -> None:
    """Another agent's stream lives on and is answered while all of them fight for one identity.

    Eight of them share a connection: it is the streams that fight, and handshakes are another test's.
    """
    server = sqlite_server
    host, other = await server.enrolled("template"), await server.enrolled("bystander")
    clones = 400
    async with AsyncExitStack() as keep, server.wire.connect(other) as stub:
        bystander = stub.Heartbeat()
        await bystander.write(other.first_frame())
        await next_reply(bystander)
        at_once = asyncio.Semaphore(40)
        stubs = [await keep.enter_async_context(server.wire.connect(host)) for _ in range(clones // 8 + 1)]

        async def fight(number: int) -> str:
            async with at_once:
                return await open_stream(stubs[number // 8], host, number)

        fighting = asyncio.gather(*(fight(number) for number in range(clones)), fight(0), fight(1))
        answered = 0
        while not fighting.done():
            await bystander.write(
                wire.HeartbeatRequest(agent_id=other.agent_id, timestamp_unix=1_790_000_000)
            )
            async with asyncio.timeout(10):
                await next_reply(bystander)
            answered += 1
            await asyncio.wait({fighting}, timeout=0.2)
        reasons = set(await fighting)
        assert "take_overs" in reasons
        for number in (0, 1) * 2:
            await fight(number)
        clone = await eventually(lambda: quarantined(server))
    shown = await server.agent(other)

    assert answered > 0
    assert reasons <= {"", "quarantined", "superseded", "take_overs"}
    assert len(clone["sides"]) <= 16
    assert ("active", []) == (shown["status"], shown["history"][1:])


async def test_two_nodes_see_one_clone(postgres: PostgresServer, tmp_path: Path) -> None:
    """Each side speaks to a node of its own: what they count lies in the database."""
    url = await migrated_database(postgres)
    async with two_servers(tmp_path, url) as (first, second), AsyncExitStack() as keep:
        host = await first.enrolled("web-1")
        refused = [
            await take_over(node, host, number, keep) for number, node in enumerate((first, second))
        ] + [await take_over(node, host, number, keep) for number, node in enumerate((first, second))]
        clone = await quarantined(first)

    assert ["", "", "", "quarantined"] == refused
    assert clone is not None
