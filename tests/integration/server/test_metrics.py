"""What a server shows at /metrics after something has happened."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from integration.server.test_delivery import connected, deliver, payload_of
from real_server import RealServer
from wire_client import Host


async def shown(server: RealServer) -> dict[str, float]:
    """Return every series by its name and labels."""
    lines = (await server.get("/metrics")).text.splitlines()
    return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if x[0] != "#")}


async def test_handshakes_rpcs_streams_and_commits_are_counted_and_timed(sqlite_server: RealServer) -> None:
    """One host that registers and sends a frame, and one caller that speaks no TLS."""
    before = await shown(sqlite_server)
    host = await sqlite_server.enrolled("metrics-1")
    async with sqlite_server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        assert isinstance(await stream.read(), wire.HeartbeatResponse)
        stream.cancel()
    reader, writer = await asyncio.open_connection("127.0.0.1", sqlite_server.wire.port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    await reader.read()
    writer.close()
    after = await shown(sqlite_server)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert 1 == grown('ct_ops_rpc_seconds_count{method="Register"}')
    assert 'ct_ops_rpc_seconds_count{method="Heartbeat"}' not in after
    assert 1 == grown("ct_ops_heartbeat_streams_opened_total")
    assert 1 == grown('ct_ops_tls_handshakes_failed_total{reason="protocol"}')
    assert 1 == grown('ct_ops_connections_refused_total{reason="no TLS handshake"}')
    assert grown("ct_ops_tls_handshakes_total") == grown("ct_ops_tls_handshake_seconds_count") >= 2
    assert grown("ct_ops_store_wait_seconds_count") >= 1
    assert 1 == after["ct_ops_database_up"]


async def test_a_batch_is_counted_with_its_size_once(sqlite_server: RealServer) -> None:
    """Also when its acknowledgement was lost and it comes again."""
    host = await sqlite_server.enrolled("metrics-3")
    async with connected(sqlite_server, host) as (stream, _):
        for _ in range(2):
            await deliver(stream, host, 1, payload_of(gaps=7))
    now = await shown(sqlite_server)

    assert (1, 1) == (now["ct_ops_batch_items_count"], now["ct_ops_batch_items_sum"])
    assert 7 == now["ct_ops_items_lost_total"]


async def test_refused_rpcs_are_no_durations(sqlite_server: RealServer) -> None:
    """They would be a flood of quick answers, or of held ones, and say nothing about the others."""
    with pytest.raises(grpc.aio.AioRpcError):
        await sqlite_server.wire.register(Host("metrics-2"), "tok_" + "a" * 32)

    assert 'ct_ops_rpc_seconds_count{method="Register"}' not in await shown(sqlite_server)


async def test_what_waits_and_what_the_process_costs_is_looked_at_while_it_runs(
    sqlite_server: RealServer,
) -> None:
    """Each second, from the inside: a scrape asks nobody."""
    async with asyncio.timeout(30):
        while True:
            now = await shown(sqlite_server)
            if now["ct_ops_event_loop_lag_seconds_count"] >= 2:
                break
            await asyncio.sleep(0.05)

    assert now["ct_ops_cpu_seconds_total"] > 0
    assert now["ct_ops_resident_memory_bytes"] > 2**20
    assert now["ct_ops_store_pending_writes"] >= 0
    assert now["ct_ops_store_lag_seconds"] >= 0
    assert 'ct_ops_agents{status="pending"}' in now
