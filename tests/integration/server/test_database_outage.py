"""The database stops under live streams: nobody loses an identity, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.app import running_server
from ct_ops_server.fleet.ports import StoreUnavailableError
from databases import PostgresServer, fresh_database, postgres_server
from integration.server.test_delivery import HELLO as DELIVERS
from integration.server.test_delivery import OUTBOX, deliver, now_ms, payload_of
from integration.server.test_delivery import connected as delivering
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


async def until_taken(stream: HeartbeatStream, host: Host, seq: int, payload: bytes) -> int:
    """Deliver a batch as an agent does, again and again while the answer is LATER; return the last answer."""
    async with asyncio.timeout(10):
        while True:
            acknowledged = await deliver(stream, host, seq, payload)
            if acknowledged.verdict != wire.BatchAck.LATER:
                return acknowledged.verdict
            await asyncio.sleep(0.05)


def the_last_hour() -> str:
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    return urlencode({"since": (now - hour).isoformat(), "until": (now + hour).isoformat()})


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
            ready, alive = await server.get("/readyz"), await server.get("/healthz")
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
    assert all("ct-ops-retry-after-ms" in dict(error.trailing_metadata() or ()) for error in (lost, register))
    assert (503, 200) == (ready.status_code, alive.status_code)
    assert ready.json()["problems"]["database"]
    assert 77.0 == shown["vitals"]["cpu_percent"]
    assert (await refused(server.wire.register(Host("web-3"), token))).details() is not None


async def test_batches_of_an_outage_come_later_and_none_is_lost(
    server: RealServer, fragile_postgres: PostgresServer
) -> None:
    """LATER while the database is stopped, on a stream that goes on; afterwards every sample is there once."""
    host = await server.enrolled("web-1")
    at_ms = now_ms()
    payloads = {
        seq: payload_of(samples=[wire.Sample(series="cpu.used_percent", ts_ms=at_ms + seq, value=seq)])
        for seq in range(1, 6)
    }
    told: list[int] = []
    async with delivering(server, host) as (stream, _):
        told.append((await deliver(stream, host, 1, payloads[1])).verdict)
        fragile_postgres.stop()
        try:
            for _ in range(3):
                later = await deliver(stream, host, 2, payloads[2])
                told.append(later.verdict)
        finally:
            fragile_postgres.start()
        told += [await until_taken(stream, host, seq, payloads[seq]) for seq in range(2, 6)]
    found = await server.ask("GET", f"/v1/agents/web-1/samples?name=cpu.used_percent&{the_last_hour()}")

    stored, waits = wire.BatchAck.STORED, wire.BatchAck.LATER
    assert [stored, waits, waits, waits, stored, stored, stored, stored] == told
    assert later.retry_after_ms > 0
    assert "series" in found, found
    assert [1.0, 2.0, 3.0, 4.0, 5.0] == [point["value"] for point in found["series"][0]["points"]]


async def test_a_batch_whose_stream_was_cut_is_stored_once(
    server: RealServer, fragile_postgres: PostgresServer
) -> None:
    """The agent cannot know whether it was: it asks on its next stream, and sends the same again."""
    host = await server.enrolled("web-1")
    payload = payload_of(samples=[wire.Sample(series="cpu.used_percent", ts_ms=now_ms(), value=1)])
    for _ in range(3):
        async with server.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame(DELIVERS))
            await next_reply(stream)
            batch = wire.Batch(outbox_id=OUTBOX, seq=1, payload=payload)
            await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, batch=batch))
            stream.cancel()
    async with delivering(server, host) as (stream, first):
        again = await deliver(stream, host, 1, payload)
    found = await server.ask("GET", f"/v1/agents/web-1/samples?name=cpu.used_percent&{the_last_hour()}")

    assert first.welcome.stored_seq in {0, 1}
    assert wire.BatchAck.STORED == again.verdict
    assert 1 == len(found["series"][0]["points"])


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
