"""Two servers on one PostgreSQL are one to agents and operators: what is said to either holds for both, at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from databases import PostgresServer, drop_database, fresh_database
from real_server import RealServer, two_servers
from wire_client import Host, reason_of
from work_wire import Connected, connected

DEFINITIONS = wire.HeartbeatRequest(hello=wire.Hello(features=["definitions"], interval_s=30))
PROMPT_S = 15
"""Half of the interval at which lost hints are made up for: what comes by then came by hint."""

Nodes = tuple[RealServer, RealServer]


@pytest.fixture(scope="module")
async def nodes(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    url = await fresh_database(postgres.url)
    async with two_servers(tmp_path_factory.mktemp("nodes"), url) as both:
        yield both
    await drop_database(url)


async def until_online(server: RealServer, host: Host, online: bool) -> None:  # noqa: FBT001
    """Wait until a node's operators see it so."""
    async with asyncio.timeout(20):
        while (await server.agent(host))["online"] is not online:  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.02)


async def test_an_agent_on_one_node_is_online_on_both_and_offline_on_both_when_it_leaves(
    nodes: Nodes,
) -> None:
    """Presence is a row, not what a process remembers."""
    first, second = nodes
    host = await first.enrolled("present")
    async with connected(second.wire, host):
        await until_online(first, host, online=True)
        await until_online(second, host, online=True)
    await until_online(first, host, online=False)
    await until_online(second, host, online=False)


async def test_an_agent_that_moves_to_the_other_node_stays_online_when_its_old_stream_ends(
    nodes: Nodes,
) -> None:
    """The late end of a stream that a younger one has replaced says nothing (rule 18)."""
    first, second = nodes
    host = await first.enrolled("moves")
    async with connected(first.wire, host) as before, connected(second.wire, host):
        await before.stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, cpu_percent=1))
        with pytest.raises(grpc.aio.AioRpcError) as fenced:
            await before.pushed()
        shown = [(await node.agent(host))["online"] for node in nodes]

    assert "superseded" == reason_of(fenced.value)
    assert [True, True] == shown


async def test_attack_a_token_for_one_host_is_used_on_both_nodes_at_once(nodes: Nodes) -> None:
    """It admits one, whichever node is asked, and is exhausted on both."""
    first, second = nodes
    token = await first.token(max_uses=1)
    attempts = [(node, Host(f"racer-{number}")) for number, node in enumerate((first, second) * 3)]
    ends = await asyncio.gather(
        *(node.wire.register(host, token) for node, host in attempts), return_exceptions=True
    )
    admitted = [end for end in ends if isinstance(end, wire.RegisterResponse)]
    refused = {reason_of(end) for end in ends if isinstance(end, grpc.aio.AioRpcError)}

    assert 1 == len(admitted)
    assert {"token_exhausted"} == refused


async def test_a_changed_check_reaches_an_agent_on_the_other_node(nodes: Nodes) -> None:
    """Added and taken away on one, told by the other."""
    first, second = nodes
    host = await first.enrolled("checked")
    check = {"actor": "test", "type": "port", "config": {"host": "127.0.0.1", "port": 22}, "interval_s": 30}
    async with connected(second.wire, host, DEFINITIONS) as agent, asyncio.timeout(PROMPT_S):
        assert [] == await told(agent)
        made = await first.ask("POST", f"/v1/agents/{host.agent_id}/checks", check)
        assert [made["id"]] == await told(agent)
        await first.ask("DELETE", f"/v1/checks/{made['id']}", {"actor": "test"})
        assert [] == await told(agent)


async def told(agent: Connected) -> list[str]:
    """Return the checks of the next list that the agent is told."""
    while not (frame := await agent.pushed()).HasField("definitions"):
        pass
    return [each.check_id for each in frame.definitions.checks]


async def test_a_cancellation_reaches_the_task_on_the_other_node(nodes: Nodes) -> None:
    """While it runs there."""
    first, second = nodes
    host = await first.enrolled("cancelled")
    body = {"actor": "test", "type": "software_inventory"}
    async with connected(second.wire, host) as agent, asyncio.timeout(PROMPT_S):
        given = await first.ask("POST", f"/v1/agents/{host.agent_id}/tasks", body)
        task = await agent.task()
        await agent.say(task, "scanning")
        await first.ask("POST", f"/v1/tasks/{given['id']}/cancel", {"actor": "test"})

        assert task.task_id == await agent.cancelled()
        await agent.end(task, exit_code=-1, error="cancelled")


async def test_a_step_of_the_server_ca_on_one_node_holds_on_both(nodes: Nodes) -> None:
    """Agents behind either hear of the same next one, and either can sign with it; nothing is copied by hand."""
    first, second = nodes
    for step in ("prepare", "activate"):
        async with asyncio.timeout(PROMPT_S):
            taken = await first.ask("POST", f"/v1/server-ca/{step}", {"actor": "test", "force": True})
            while server_cas(await second.ask("GET", "/v1/server-ca")) != server_cas(taken):  # noqa: ASYNC110  of the server
                await asyncio.sleep(0.05)
    taken = await second.ask("POST", "/v1/server-ca/retire", {"actor": "test", "force": True})
    async with asyncio.timeout(PROMPT_S):
        while server_cas(await first.ask("GET", "/v1/server-ca")) != server_cas(taken):  # noqa: ASYNC110  of the server
            await asyncio.sleep(0.05)

    assert [role for _, role in server_cas(taken)] == ["signs"]
    keys = [sorted(path.name for path in node.settings.data_dir.glob("server-ca*.key")) for node in nodes]
    assert keys == [["server-ca-2.key"], ["server-ca-2.key"]]


def server_cas(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a node says of its server CAs."""
    return [(each["sha256"], each["role"]) for each in found["authorities"]]
