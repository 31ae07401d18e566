"""Checks on their way to agents, over real TLS and both databases: ours, and existing ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.config.schema import Settings
from ct_ops_server.fleet.check_delivery import NO_CHECKS
from real_server import RealServer, real_server
from wire_client import HeartbeatStream, Host, next_reply

PORT = {"type": "port", "config": {"host": "127.0.0.1", "port": 22}, "interval_s": 30}
HELLO = wire.HeartbeatRequest(hello=wire.Hello(features=["definitions"], interval_s=30))


@dataclass
class ExistingAgent:
    """Checks as existing agents keep them: the last list that was not empty, for as long as they live."""

    running: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def take(self, reply: wire.HeartbeatResponse) -> None:
        """Mind a frame: an empty list says nothing, because pushed frames carry one."""
        if reply.checks:
            self.running = {
                each.check_id: (each.check_type, each.config_json, each.interval_seconds)
                for each in reply.checks
            }


@asynccontextmanager
async def connected(
    server: RealServer, host: Host, values: wire.HeartbeatRequest | None = None
) -> AsyncIterator[HeartbeatStream]:
    """Open a stream and read the reply to its first frame."""
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame(values))
        await next_reply(stream)
        yield stream
        stream.cancel()


async def beat(stream: HeartbeatStream, host: Host) -> wire.HeartbeatResponse:
    """Send a later frame and return the next message, pushed or not."""
    await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id))
    return await next_reply(stream)


async def until(stream: HeartbeatStream, agent: ExistingAgent, ids: set[str]) -> None:
    """Have an existing agent mind frames until it runs exactly these."""
    async with asyncio.timeout(20):
        while set(agent.running) != ids:
            agent.take(await next_reply(stream))


async def add(server: RealServer, host: Host, **changes: Any) -> dict[str, Any]:
    body = {"actor": "ada", **PORT, **changes}
    made: dict[str, Any] = await server.ask("POST", f"/v1/agents/{host.agent_id}/checks", body)
    return made


async def do(server: RealServer, method: str, path: str) -> Any:
    return await server.ask(method, path, {"actor": "ada"})


async def definitions(stream: HeartbeatStream) -> dict[str, wire.CheckDefinition]:
    """Return the next list that an agent of ours is told."""
    async with asyncio.timeout(20):
        while not (reply := await next_reply(stream)).HasField("definitions"):
            pass
    return {each.check_id: each for each in reply.definitions.checks}


async def test_an_agent_of_ours_is_told_its_checks_when_it_comes_and_when_they_change(
    server: RealServer,
) -> None:
    """The empty list too; each change is pushed, without a frame of the agent's in between."""
    host = await server.enrolled("web-1")
    async with connected(server, host, HELLO) as stream:
        first = await definitions(stream)
        made = await add(server, host, timeout_s=3)
        added = await definitions(stream)
        other = await add(server, host, type="process", config={"process_name": "sshd"})
        both = await definitions(stream)
        await do(server, "POST", f"/v1/checks/{made['id']}/disable")
        one = await definitions(stream)
        await do(server, "DELETE", f"/v1/checks/{other['id']}")
        none = await definitions(stream)
    async with connected(server, host, HELLO) as stream:
        again = await definitions(stream)

    assert [{}, {}, {}] == [first, none, again]
    assert {made["id"]} == set(added)
    definition = added[made["id"]]
    assert ("port", '{"host":"127.0.0.1","port":22}', 30, 3_000) == (
        definition.check_type,
        definition.config_json,
        definition.interval_seconds,
        definition.timeout_ms,
    )
    assert ({made["id"], other["id"]}, {other["id"]}) == (set(both), set(one))


async def test_an_existing_agent_is_told_its_checks_where_it_looks_for_them(server: RealServer) -> None:
    """In field 7, pushed or with a reply; and in no other field."""
    host, agent = await server.enrolled("web-1"), ExistingAgent()
    async with connected(server, host) as stream:
        made = await add(server, host)
        await until(stream, agent, {made["id"]})
        other = await add(server, host, type="certificate", config={"host": "h", "port": 443}, timeout_s=5)
        await until(stream, agent, {made["id"], other["id"]})
        await do(server, "POST", f"/v1/checks/{made['id']}/disable")
        await until(stream, agent, {other["id"]})

    (seen,) = agent.running.values()
    assert ("certificate", 30) == (seen[0], seen[2])
    assert '"timeout_seconds":5' in seen[1]


async def test_the_last_check_of_an_existing_agent_stops_although_it_ignores_empty_lists(
    server: RealServer,
) -> None:
    """Removed while it is connected: at once it runs nothing but the check that stands for none."""
    host, agent = await server.enrolled("web-1"), ExistingAgent()
    async with connected(server, host) as stream:
        made = await add(server, host)
        await until(stream, agent, {made["id"]})
        await do(server, "DELETE", f"/v1/checks/{made['id']}")
        await until(stream, agent, {NO_CHECKS.check_id})
        back = await add(server, host)
        await until(stream, agent, {back["id"]})


async def test_the_last_check_of_an_existing_agent_stops_when_it_went_while_the_agent_was_away(
    server: RealServer,
) -> None:
    """Its process lives on without a stream, and so does its check, until it comes back."""
    host, agent = await server.enrolled("web-1"), ExistingAgent()
    async with connected(server, host) as stream:
        made = await add(server, host)
        await until(stream, agent, {made["id"]})
    await do(server, "POST", f"/v1/checks/{made['id']}/disable")
    async with connected(server, host) as stream:
        await until(stream, agent, {NO_CHECKS.check_id})


async def test_an_existing_agent_that_never_had_a_check_is_told_nothing(server: RealServer) -> None:
    """No field of ours, no check that stands for none."""
    host = await server.enrolled("web-1")
    async with connected(server, host) as stream:
        for _ in range(3):
            reply = await beat(stream, host)

            assert (0, False) == (len(reply.checks), reply.HasField("definitions"))


async def test_a_check_that_was_defined_before_the_server_was_restarted_is_told(settings: Settings) -> None:
    """Definitions live in the database; what was told lives in a process."""
    async with real_server(settings) as server:
        host = await server.enrolled("web-1")
        secret = {"file_path": "/a.p12", "format": "pkcs12", "password": "hunter2"}
        made = await add(server, host, type="cert_file", config=secret)
        shown = await server.ask("GET", f"/v1/checks/{made['id']}")
    async with real_server(settings) as server, connected(server, host, HELLO) as stream:
        told = await definitions(stream)

    assert '"password":"hunter2"' in told[made["id"]].config_json
    assert "hunter2" not in str([made, shown])
