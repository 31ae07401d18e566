"""A hurry over two nodes of one PostgreSQL: each agent is told once, by the node it is on, also when a node goes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from databases import PostgresServer, drop_database, migrated_database
from real_server import RealServer, real_server, settings_for, two_servers
from wire_client import Host, Wire, next_reply

_PATIENCE_S = 60


@dataclass
class Existing:
    """An existing agent as its service manager sees it: it goes away with a pushed leaf and is started again."""

    host: Host
    wire: Wire
    then: Wire
    """Where it finds a server the next time; its first one again when that one refuses."""
    leaves: list[str] = field(default_factory=list)

    async def live(self) -> None:
        """Beat for as long as it is let, over every end of a stream."""
        while True:
            try:
                await self._run()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, AssertionError):
                await asyncio.sleep(0.1)  # its stream has ended, before a write or after it
            self.wire, self.then = self.then, self.wire

    async def _run(self) -> None:
        async with self.wire.connect(self.host) as stub:
            stream = stub.Heartbeat()
            while True:
                await stream.write(self.host.first_frame())
                reply = await next_reply(stream)
                if reply.pending_client_cert_pem:
                    self.host.leaf_pem = reply.pending_client_cert_pem
                    self.leaves.append(reply.pending_client_cert_pem)
                    stream.cancel()
                    return
                await asyncio.sleep(0.05)


async def take(server: RealServer, name: str) -> None:
    """Take a step of the agent CA when every worker of both nodes has taken up the one before."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            plan = await server.ask("GET", "/v1/authority/ca/next")
            body = {"actor": "test", "version": plan["version"], "force": False}
            if "error" not in await server.ask("POST", f"/v1/authority/ca/{name}", body):
                return
            await asyncio.sleep(0.05)


async def until_done(server: RealServer) -> dict[str, Any]:
    """Wait until every active agent has a leaf of the new agent CA; return how the hurry ended."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            found = (await server.ask("GET", "/v1/hurry"))["hurry"]
            if found["state"] == "done":
                return dict(found)
            assert found["state"] == "running", found["reason"]
            await asyncio.sleep(0.1)


def issuer_of(pem: str) -> str:
    return x509.load_pem_x509_certificate(pem.encode()).issuer.rfc4514_string()


@pytest.fixture
async def database_url(postgres: PostgresServer) -> AsyncIterator[str]:
    url = await migrated_database(postgres)
    yield url
    await drop_database(url)


async def test_each_agent_of_two_nodes_is_pushed_one_leaf_and_comes_back_on_the_other_node(
    tmp_path: Path, database_url: str
) -> None:
    """Started on one node, of agents on both: one hurry, one pace, and nobody is told twice."""
    async with two_servers(tmp_path, database_url) as (one, two), asyncio.TaskGroup() as group:
        agents = [
            Existing(await one.enrolled("on-one"), one.wire, two.wire),
            Existing(await one.enrolled("on-two"), two.wire, one.wire),
            Existing(await two.enrolled("on-two-as-well"), two.wire, two.wire),
        ]
        before = issuer_of(agents[0].host.leaf_pem)
        living = [group.create_task(each.live()) for each in agents]
        await take(one, "prepare")
        await take(two, "activate")
        await two.ask("POST", "/v1/hurry", {"actor": "test"})
        ended = await until_done(one)
        for each in living:
            each.cancel()

    assert [1, 1, 1] == [len(each.leaves) for each in agents]
    assert all(issuer_of(each.host.leaf_pem) != before for each in agents)
    assert (3, 3, 0) == (ended["asked"], ended["back"], ended["remaining"])


async def test_outage_a_node_that_goes_in_the_middle_of_a_hurry_leaves_it_to_the_other(
    tmp_path: Path, database_url: str
) -> None:
    """Its agents come to the node that is left, and are told there; whoever was told before is not told again."""
    async with (
        AsyncExitStack() as going,
        real_server(settings_for(tmp_path / "stays", database_url)) as stays,
    ):
        copied = shutil.ignore_patterns("*.sock", "*.lock")
        shutil.copytree(tmp_path / "stays", tmp_path / "goes", ignore=copied)
        goes = await going.enter_async_context(real_server(settings_for(tmp_path / "goes", database_url)))
        names = ("first", "second", "third")
        agents = [Existing(await goes.enrolled(name), goes.wire, stays.wire) for name in names]
        async with asyncio.TaskGroup() as group:
            living = [group.create_task(each.live()) for each in agents]
            await take(goes, "prepare")
            await take(goes, "activate")
            await goes.ask("POST", "/v1/hurry", {"actor": "test"})
            async with asyncio.timeout(_PATIENCE_S):
                while not any(each.leaves for each in agents):  # noqa: ASYNC110  there is no event to wait for
                    await asyncio.sleep(0.05)
            await going.aclose()
            ended = await until_done(stays)
            for each in living:
                each.cancel()

    assert [1, 1, 1] == [len(each.leaves) for each in agents]
    assert 0 == ended["remaining"]
