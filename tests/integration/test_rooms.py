"""The rooms behind the front door: what a visitor without an identity may use up, and for how long it may stay."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ct_ops_server.edge.limits import Limits
from real_server import LIMITS, RealServer, real_server, settings_for, tighter
from wire_client import Host, insecure_context, next_reply

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""A client's first bytes with an empty SETTINGS frame (RFC 9113, 3.4)."""
_SETTINGS = 4
_MAX_CONCURRENT_STREAMS = 3
_PATIENCE_S = 30

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connection(server: RealServer, alpn: str, host: Host | None = None) -> Connection:
    """Connect, as a host when there is one."""
    context = insecure_context(alpn=[alpn])
    if host is not None:
        with tempfile.NamedTemporaryFile(suffix=".pem") as pair:
            pair.write(host.leaf_pem.encode() + host.key_pem)
            pair.flush()
            context.load_cert_chain(pair.name)
    return await asyncio.open_connection("127.0.0.1", server.wire.port, ssl=context)


async def settings_of(reader: asyncio.StreamReader) -> dict[int, int]:
    """Return what a server's first SETTINGS frame says (RFC 9113, 6.5)."""
    header = await reader.readexactly(9)
    assert _SETTINGS == header[3]
    payload = await reader.readexactly(int.from_bytes(header[:3]))
    return dict(struct.iter_unpack("!HI", payload))


async def streams_for(server: RealServer, host: Host | None) -> int:
    """Return how many RPCs a connection may have at once."""
    reader, writer = await connection(server, "h2", host)
    writer.write(_PREFACE)
    async with asyncio.timeout(_PATIENCE_S):
        told = await settings_of(reader)
    writer.close()
    return told[_MAX_CONCURRENT_STREAMS]


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until the server has closed the connection."""
    async with asyncio.timeout(_PATIENCE_S):
        try:
            while await reader.read(4096):
                pass
        except ConnectionResetError:
            pass


async def request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask for the CA and keep the connection; return the status line, or nothing when the server has closed it."""
    try:
        writer.write(b"GET /.well-known/ct-ops/ca.pem HTTP/1.1\r\nHost: anything\r\n\r\n")
        status = await reader.readline()
        length = 0
        while (line := await reader.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        await reader.readexactly(length)
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""
    return status


async def test_attack_a_visitor_parks_streams_and_gets_no_more_than_two(sqlite_server: RealServer) -> None:
    """A hundred parked streams of one anonymous connection took hundreds of megabytes; an agent has eight."""
    host = await sqlite_server.enrolled("web-1")

    assert LIMITS.lobby_streams == await streams_for(sqlite_server, None)
    assert LIMITS.agent_streams == await streams_for(sqlite_server, host)


async def test_attack_visitors_of_one_address_fill_the_lobby_and_agents_get_in(tmp_path: Path) -> None:
    """What the lobby's share of an address is used up for is no agent's business, also of that very address."""
    async with real_server(
        settings_for(tmp_path / "server"), tighter(lobby_connections_per_address=2)
    ) as server:
        host = await server.enrolled("web-1")
        async with AsyncExitStack() as parked:
            for _ in range(2):
                _, writer = await connection(server, "h2")
                parked.callback(writer.close)
            reader, writer = await connection(server, "h2")
            parked.callback(writer.close)
            await ended(reader)
            async with server.wire.connect(host) as stub:
                stream = stub.Heartbeat()
                await stream.write(host.first_frame())
                await next_reply(stream)
                stream.cancel()


@pytest.mark.parametrize(
    ("alpn", "limits"),
    [("h2", tighter(lobby_idle_s=0.1)), ("http/1.1", tighter(http_idle_s=0.1))],
    ids=["lobby", "http"],
)
async def test_a_visitor_who_says_nothing_is_closed_after_a_while(
    alpn: str, limits: Limits, tmp_path: Path
) -> None:
    """A tenth of a second in this test."""
    async with real_server(settings_for(tmp_path / "server"), limits) as server:
        reader, writer = await connection(server, alpn)
        await ended(reader)
        writer.close()


async def test_attack_a_visitor_who_asks_for_ever_is_closed_at_an_age(tmp_path: Path) -> None:
    """However busy its connection is."""
    async with real_server(settings_for(tmp_path / "server"), tighter(http_age_s=0.5)) as server:
        reader, writer = await connection(server, "http/1.1")
        asked = 0
        async with asyncio.timeout(_PATIENCE_S):
            while (await request(reader, writer)).startswith(b"HTTP/1.1 200"):
                asked += 1
        writer.close()

    assert asked


async def test_attack_one_address_cannot_have_all_http_connections(tmp_path: Path) -> None:
    """The one too many is closed, those before it are served."""
    async with real_server(
        settings_for(tmp_path / "server"), tighter(http_connections_per_address=2)
    ) as server:
        first, second = [await connection(server, "http/1.1") for _ in range(2)]
        reader, writer = await connection(server, "http/1.1")
        await ended(reader)
        writer.close()

        for each in (first, second):
            assert (await request(*each)).startswith(b"HTTP/1.1 200")
            each[1].close()
