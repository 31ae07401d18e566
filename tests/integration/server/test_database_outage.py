"""The database stops under live streams: nobody loses an identity, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.app import running_server
from ct_ops_server.fleet.ports import StoreUnavailableError
from databases import PostgresServer, fresh_database, postgres_server
from real_server import RealServer, real_server, settings_for
from wire_client import HeartbeatStream, Host, next_reply, reason_of


@pytest.fixture(scope="module")
def fragile_postgres() -> Iterator[PostgresServer]:
    """A server of its own: it is stopped while others need theirs."""
    with postgres_server() as running:
        yield running


@pytest.fixture
async def server(fragile_postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[RealServer]:
    url = await fresh_database(fragile_postgres.url)
    async with real_server(settings_for(tmp_path / "server", url)) as running:
        yield running


@asynccontextmanager
async def connected(server: RealServer, host: Host) -> AsyncIterator[HeartbeatStream]:
    """Yield a stream whose first frame was acknowledged."""
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        await next_reply(stream)
        yield stream
        stream.cancel()


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return refusal.value


async def eventually(attempt: Callable[[], Awaitable[object]]) -> None:
    """Try again as an agent does, for at most ten seconds; each failure must be an outage."""
    async with asyncio.timeout(10):
        while True:
            try:
                await attempt()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.1)
            else:
                return


async def test_an_outage_is_told_as_an_outage_and_afterwards_everything_is_there(
    server: RealServer, fragile_postgres: PostgresServer
) -> None:
    """No status that makes an agent give up its identity, no frame acknowledged in vain, no use spent."""
    token = await server.token(max_uses=2)
    host, late = Host("web-1"), Host("web-2")
    await server.wire.register(host, token)
    values = wire.HeartbeatRequest(agent_id=host.agent_id, cpu_percent=77.0)
    async with connected(server, host) as stream:
        await stream.write(values)
        assert (await next_reply(stream)).ok
        fragile_postgres.stop()
        try:
            await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, cpu_percent=1.0))
            lost = await refused(stream.read())
            register = await refused(server.wire.register(late, token))
            ready = await server.get("/readyz")
        finally:
            fragile_postgres.start()
    await eventually(lambda: server.wire.register(late, token))
    shown = await server.agent(host)

    async def beat_again() -> None:
        async with connected(server, host):
            assert (await server.agent(host))["online"]

    await eventually(beat_again)

    assert [("store_unavailable", grpc.StatusCode.UNAVAILABLE)] * 2 == [
        (reason_of(error), error.code()) for error in (lost, register)
    ]
    assert 503 == ready.status_code
    assert 77.0 == shown["vitals"]["cpu_percent"]
    assert (await refused(server.wire.register(Host("web-3"), token))).details() is not None


async def test_a_server_does_not_start_without_its_database(
    fragile_postgres: PostgresServer, tmp_path: Path
) -> None:
    """It says what does not answer, and leaves its data directory free."""
    url = await fresh_database(fragile_postgres.url)
    settings = settings_for(tmp_path / "server", url)
    fragile_postgres.stop()
    try:
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            async with running_server(settings):
                pytest.fail("it started")
    finally:
        fragile_postgres.start()
    async with real_server(settings) as running:
        assert 200 == (await running.get("/readyz")).status_code
