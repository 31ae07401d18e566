"""Queries over the wire: pushed at once, answered once, and only by whom they were put to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.config.schema import Settings
from real_server import RealServer, real_server, two_servers
from wire_client import Host
from work_wire import connected

SSHD = wire.PortInfo(port=22, protocol="tcp", process="sshd")


async def ask(server: RealServer, host: Host, query_type: str = "list_ports", **more: Any) -> dict[str, Any]:
    body = {"actor": "test", "type": query_type, **more}
    asked: dict[str, Any] = await server.ask("POST", f"/v1/agents/{host.agent_id}/queries", body)
    return asked


async def answer_to(server: RealServer, asked: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = await server.ask("GET", f"/v1/queries/{asked['id']}?wait_s=10")
    return found


async def test_an_existing_agent_is_asked_on_its_live_stream_and_answers(server: RealServer) -> None:
    """It is told between its heartbeats, and what it found is what the operator reads."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:
        asked = await ask(server, host)
        query = await agent.query()
        assert (asked["id"], "list_ports") == (query.query_id, query.query_type)
        await agent.answer(query, SSHD)
        found = await answer_to(server, asked)

    assert "answered" == found["state"]
    assert [{"port": 22, "protocol": "tcp", "process": "sshd"}] == found["ports"]


async def test_why_an_agent_could_not_find_out_is_kept(server: RealServer) -> None:
    """In its own words."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:
        asked = await ask(server, host)
        await agent.answer(await agent.query(), error="ss: command not found")

        found = await answer_to(server, asked)
    assert ("failed", "ss: command not found") == (found["state"], found["error"])


async def test_an_agent_that_is_offline_is_not_asked(server: RealServer) -> None:
    """The operator hears it at once; a task would wait."""
    host = await server.enrolled("host-1")
    refused = await ask(server, host)

    assert "offline" == refused["error"]["code"]
    assert "host-1" in refused["error"]["message"]


@pytest.mark.parametrize("decision", ["pending", "revoked"])
async def test_an_agent_that_is_not_let_in_is_not_asked(server: RealServer, decision: str) -> None:
    """Nor one that was put out."""
    host = Host("host-1")
    await server.wire.register(host, await server.token(auto_approve=decision != "pending"))
    if decision == "revoked":
        await server.decide(host, "revoke")

    refused = await ask(server, host)
    assert "conflict" == refused["error"]["code"]
    assert decision in refused["error"]["message"]


async def test_a_question_that_no_agent_understands_is_refused(server: RealServer) -> None:
    """With those that they do."""
    host = await server.enrolled("host-1")

    refused = await ask(server, host, "list_secrets")
    assert "list_ports and list_services" in refused["error"]["message"]


async def test_a_query_is_told_once_a_stream_and_again_on_the_next_one(server: RealServer) -> None:
    """An existing agent runs it once for each stream, and forgets it with the stream."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:
        asked = await ask(server, host)
        assert asked["id"] == (await agent.query()).query_id
        for _ in range(3):
            await ask(server, host, "list_services")
            assert asked["id"] not in [each.query_id for each in (await agent.pushed()).pending_queries]
    async with connected(server.wire, host) as again:
        told = set[str]()
        while asked["id"] not in told:
            told.update(each.query_id for each in (await again.pushed()).pending_queries)


async def test_a_query_that_nobody_answers_expires(server: RealServer) -> None:
    """And says so to whoever waits."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:
        asked = await ask(server, host, expires_in_s=3)
        await agent.query()
        while (found := await answer_to(server, asked))["state"] == "waiting":
            pass

    assert "expired" == found["state"]


async def test_another_agents_query_id_is_no_use(server: RealServer) -> None:
    """Whoever guesses or overhears one cannot answer in its host's place."""
    victim, thief = await server.enrolled("host-1"), await server.enrolled("host-2")
    async with connected(server.wire, victim) as agent, connected(server.wire, thief) as other:
        asked = await ask(server, victim)
        query = await agent.query()
        await other.answer(query, wire.PortInfo(port=6667, protocol="tcp", process="forged"))
        assert "waiting" == (await server.ask("GET", f"/v1/queries/{asked['id']}"))["state"]
        await agent.answer(query, SSHD)

        assert "sshd" == (await answer_to(server, asked))["ports"][0]["process"]


async def test_queries_come_between_heartbeats_without_a_frame_being_mixed_up(server: RealServer) -> None:
    """Pushed frames and replies share the stream, one write at a time."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:

        async def beat() -> None:
            for _ in range(15):
                await agent.stream.write(wire.HeartbeatRequest(agent_id=host.agent_id))

        async def put() -> list[dict[str, Any]]:
            return [await ask(server, host) for _ in range(10)]

        beating, asked = await asyncio.gather(beat(), put())
        assert beating is None
        replies, told = 0, set[str]()
        while replies < 15 or len(told) < 10:
            frame = await agent.pushed()
            assert frame.ok
            told.update(each.query_id for each in frame.pending_queries)
            replies += not frame.pending_queries

    assert {each["id"] for each in asked} == told


async def test_a_query_given_on_one_server_reaches_an_agent_on_another(
    postgres_url: str, tmp_path: Any
) -> None:
    """Two servers on one PostgreSQL: told by NOTIFY, not by a poll."""
    async with two_servers(tmp_path, postgres_url) as (first, second):
        host = await first.enrolled("host-1")
        async with connected(second.wire, host) as agent:
            asked = await ask(first, host)
            await agent.answer(await agent.query(), SSHD)

            assert "answered" == (await answer_to(first, asked))["state"]


async def test_a_query_asked_while_no_server_listens_is_told_after_the_start(settings: Settings) -> None:
    """Rows are the truth; a hint that nobody heard costs nothing."""
    async with real_server(settings) as server:
        host = await server.enrolled("host-1")
        async with connected(server.wire, host):
            asked = await ask(server, host)
    async with real_server(settings) as server, connected(server.wire, host) as agent:
        assert asked["id"] == (await agent.query()).query_id
