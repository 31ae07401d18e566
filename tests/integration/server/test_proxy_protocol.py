"""A server behind a TCP balancer: whose connection it is, and what forgers get."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ct_ops_server.edge.proxy_protocol import SIGNATURE
from real_server import RealServer, real_server, settings_for, tighter
from wire_client import Host, Wire, next_reply
from worker_processes import worker_server

BALANCER = ipaddress.ip_network("127.0.0.1/32")


@pytest.fixture(scope="module")
async def behind(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealServer]:
    """A server that believes 127.0.0.1, which all connections of tests come from."""
    settings = settings_for(tmp_path_factory.mktemp("behind") / "server")
    limits = tighter(proxy_header_s=30.0, handshakes_per_address=3)
    async with real_server(replace(settings, proxy_protocol_networks=(BALANCER,)), limits) as running:
        yield running


def header_for(client: str, more: bytes = b"") -> bytes:
    """Return what a balancer writes first."""
    address = ipaddress.ip_address(client)
    body = address.packed * 2 + struct.pack("!HH", 40_000, 9443) + more
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11 if address.version == 4 else 0x21, len(body)) + body


@asynccontextmanager
async def balancer(port: int, client: str) -> AsyncIterator[int]:
    """Run a balancer whose clients all come from one address; the value is its port."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                writer.write(piece)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", port)
        upstream.write(header_for(client))
        await asyncio.gather(forward(reader, upstream), forward(upstream_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def closed_with(server: RealServer, sent: bytes) -> str:
    """Return the reason that was counted for a connection which sent this, once it is closed."""
    before = await reasons(server)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.wire.port)
    writer.write(sent)
    async with asyncio.timeout(20):
        with suppress(ConnectionResetError):
            await reader.read()
    writer.close()
    (reason,) = {reason for reason, count in (await reasons(server)).items() if before.get(reason) != count}
    return reason


async def reasons(server: RealServer) -> dict[str, str]:
    """Return the counters of refused connections."""
    name = 'ct_ops_connections_refused_total{reason="'
    lines = (await server.get("/metrics")).text.splitlines()
    return dict(line.removeprefix(name).rsplit('"} ', 1) for line in lines if line.startswith(name))


async def test_an_agent_behind_a_balancer_is_served_and_known_by_its_own_address(behind: RealServer) -> None:
    """Enrolment and heartbeats, with the address that the balancer named."""
    assert ("active", "192.0.2.7") == await seen_through_a_balancer(behind)


async def test_a_balancer_is_understood_by_a_server_as_operators_start_it(tmp_path: Path) -> None:
    """A process of its own, with the event loop that serves in the field."""
    url = f"sqlite:///{tmp_path}/server/ct-ops.db"
    believed = {"INGEST_PROXY_PROTOCOL_NETWORKS": str(BALANCER)}
    async with worker_server(tmp_path / "server", url, workers=1, **believed) as started:
        assert ("active", "192.0.2.7") == await seen_through_a_balancer(started.server)


async def seen_through_a_balancer(server: RealServer) -> tuple[object, object]:
    """Enrol a host of 192.0.2.7 through a balancer and let it report; return what the server then says of it."""
    host = Host("behind")
    async with balancer(server.wire.port, "192.0.2.7") as port:
        wire = Wire(port, server.wire.ca_pem)
        await wire.register(host, await server.token(networks=["192.0.2.0/24"]))
        async with wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            assert (await next_reply(stream)).ok
            stream.cancel()
    shown = await server.agent(host)
    return shown["status"], shown["observed_address"]


async def test_attack_a_forged_header_from_an_unconfigured_network_is_garbage(tmp_path: Path) -> None:
    """Nobody is believed unless configuration names them: TLS reads it, and ends."""
    async with real_server(settings_for(tmp_path / "server")) as server:
        reason = await closed_with(server, header_for("192.0.2.7"))

    assert reason.startswith("no TLS handshake")


async def test_attack_a_balancers_network_without_a_header_is_closed(behind: RealServer) -> None:
    """Whoever could leave it out would be counted as the balancer."""
    assert "no PROXY header" == await closed_with(behind, b"\x16\x03\x01\x02\x00\x01\x00\x01" + bytes(64))


async def test_attack_a_slow_header_is_closed_at_its_limit(tmp_path: Path) -> None:
    """Half a header holds a place for half a second here, however often a byte comes."""
    settings = replace(settings_for(tmp_path / "server"), proxy_protocol_networks=(BALANCER,))
    async with real_server(settings, tighter(proxy_header_s=0.5)) as server:
        assert "no PROXY header within 0.5 s" == await closed_with(server, header_for("192.0.2.7")[:20])


async def test_attack_oversized_tlvs_are_not_read(behind: RealServer) -> None:
    """The length alone is enough to close."""
    assert "PROXY header too long" == await closed_with(behind, header_for("192.0.2.7", bytes(60_000)))


async def test_attack_a_header_of_version_1_is_refused_with_what_to_do(behind: RealServer) -> None:
    """It is text of any length, and says less."""
    reason = await closed_with(behind, b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 9443\r\n")

    assert "have the balancer send version 2" in reason


async def test_attack_one_client_behind_the_balancer_cannot_use_up_the_others_handshakes(
    behind: RealServer,
) -> None:
    """The limit of an address is the client's: three silent connections of it leave none for a fourth, and all for others."""
    silent = [await asyncio.open_connection("127.0.0.1", behind.wire.port) for _ in range(3)]
    for _, writer in silent:
        writer.write(header_for("192.0.2.66"))
        await writer.drain()
    fourth = await closed_with(behind, header_for("192.0.2.66"))
    other = await closed_with(behind, header_for("192.0.2.99") + b"garbage garbage garbage")
    for _, writer in silent:
        writer.close()

    assert "too many handshakes from this address" == fourth
    assert other.startswith("no TLS handshake")
