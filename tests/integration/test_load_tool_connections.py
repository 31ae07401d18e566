"""Connections of the load tool with servers that do not do what servers do: each is an error with its status, none a wait for ever."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ct_ops_loadtest import connection, virtual_agent
from ct_ops_loadtest.connection import RpcError, Server, dial
from ct_ops_loadtest.plan import Target
from ct_ops_loadtest.tls import Trust
from ct_ops_loadtest.virtual_agent import VirtualAgent
from fakes.conforming_server import Authority, make_authority, make_server_certificate

Serving = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SETTINGS = bytes(3) + b"\4" + bytes(5)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority("Conforming Server CA")


@pytest.fixture
def context(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    certificate, key = make_server_certificate(authority, ("localhost",))
    file = tmp_path / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    made.set_alpn_protocols(["h2"])
    return made


@asynccontextmanager
async def serving(serve: Serving, context: ssl.SSLContext | None) -> AsyncIterator[Server]:
    """Run a server that treats each connection like this."""
    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield Server("localhost", running.sockets[0].getsockname()[1])
    finally:
        running.close()
        await running.wait_closed()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read everything and say nothing."""
    writer.write(SETTINGS if writer.get_extra_info("ssl_object") else b"")
    while await reader.read(1 << 16):
        pass
    writer.close()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close after the first words."""
    await reader.read(1)
    writer.close()


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as a web server does."""
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await reader.read()
    writer.close()


async def test_a_port_that_says_nothing_is_left_after_a_while(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something listens, and it is no TLS."""
    monkeypatch.setattr(connection, "_DIAL_S", 0.1)
    async with serving(silent, None) as server:
        with pytest.raises(RpcError, match=r"UNAVAILABLE: cannot connect: no answer within 0\.1 s"):
            await dial(server, Trust(authority.pem).context())


async def test_a_server_without_http2_is_said(authority: Authority, context: ssl.SSLContext) -> None:
    """The address of a web server was given."""
    context.set_alpn_protocols(["http/1.1"])
    async with serving(silent, context) as server:
        with pytest.raises(RpcError, match="UNAVAILABLE: the server does not offer HTTP/2 on this port"):
            await dial(server, Trust(authority.pem).context())


async def test_a_stranger_is_not_talked_to(context: ssl.SSLContext) -> None:
    """Before a token was sent."""
    heard = bytearray()

    async def listening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read())
        writer.close()

    async with serving(listening, context) as server:
        with pytest.raises(RpcError, match="TLS handshake failed"):
            await dial(server, Trust(make_authority("Another CA").pem).context())

    assert b"" == heard


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        (closing, "UNAVAILABLE: the server closed the connection"),
        (web, "UNAVAILABLE: the server sent a frame of"),
    ],
)
async def test_a_connection_that_breaks_ends_the_call(
    authority: Authority, context: ssl.SSLContext, serve: Serving, said: str
) -> None:
    """And the next call on it says so at once."""
    async with serving(serve, context) as server:
        made = await dial(server, Trust(authority.pem).context())
        for _ in range(2):
            with pytest.raises(RpcError, match=said):
                await made.call("/agent.v1.IngestService/Register", [b"hello"])


async def test_a_call_that_is_not_answered_has_a_deadline(
    authority: Authority, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DEADLINE_EXCEEDED, as gRPC calls it; the connection stays usable."""
    monkeypatch.setattr(connection, "_CALL_S", 0.1)
    async with serving(silent, context) as server:
        made = await dial(server, Trust(authority.pem).context())
        with pytest.raises(RpcError, match=r"DEADLINE_EXCEEDED: no answer within 0\.1 s"):
            await made.call("/agent.v1.IngestService/Register", [b"hello"])
        assert "" == made.lost_by
        made.close()


async def test_a_heartbeat_that_is_not_acknowledged_has_one_too(
    authority: Authority, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent breaks off, and does not wait for the end of the run."""
    monkeypatch.setattr(virtual_agent, "DEADLINE_S", 0.1)
    async with serving(silent, context) as server:
        trust = Trust(authority.pem)
        agent = VirtualAgent(Target(server, trust, "tok_x"), "loadtest-1", lambda _: None)
        made = await dial(server, trust.context())
        with pytest.raises(RpcError, match=r"DEADLINE_EXCEEDED: no acknowledgement within 0\.1 s"):
            await agent.open(made)
        with pytest.raises(RpcError, match="cut by the plan"):
            await agent.rest(10)

    assert made.lost_by


async def test_a_slow_connection_sends_no_faster_than_told(
    authority: Authority, context: ssl.SSLContext
) -> None:
    """Whatever it has to say, and all of it in the end."""
    heard: list[int] = []
    whole = asyncio.Event()

    async def listening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            heard.append(len(piece))
            if sum(heard) > 1_000:
                whole.set()
        writer.close()

    async with serving(listening, context) as server:
        made = await dial(server, Trust(authority.pem).context(), bytes_per_s=4_000)
        began_s = asyncio.get_running_loop().time()
        calling = asyncio.create_task(made.call("/agent.v1.IngestService/Register", [bytes(1_000)]))
        async with asyncio.timeout(20):
            await whole.wait()
        took_s = asyncio.get_running_loop().time() - began_s
        made.close()
        with pytest.raises(RpcError):
            await calling

    assert took_s > 0.15
