"""First contact believes nothing, sends nothing, and takes no more than it needs."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.transport.first_contact import UnverifiedFirstContact
from fakes.conforming_server import conforming_server, make_server_certificate


@asynccontextmanager
async def https_server(directory: Path, answer: bytes) -> AsyncIterator[str]:
    """Answer every request with the same bytes, over TLS."""
    certificate, key = make_server_certificate(None, ("localhost",))
    file = directory / "server.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_the_published_authority_is_fetched_whoever_signed_the_server() -> None:
    """Nothing is verified here; the pin decides later."""
    async with conforming_server() as server:
        server.script.publish_ca = True

        assert server.server_ca.pem == await UnverifiedFirstContact().fetch_unverified_ca(server.address)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n", "302"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, "too large"),
        (b"garbage\r\n\r\n", "cannot fetch"),
        (b"", "cannot fetch"),
    ],
    ids=["absent", "redirect", "endless", "garbage", "hang up"],
)
async def test_anything_but_a_small_answer_is_no_answer(tmp_path: Path, answer: bytes, said: str) -> None:
    """Attack: redirects are not followed, floods are cut at 64 KiB."""
    async with https_server(tmp_path, answer) as address:
        with pytest.raises(UnreachableError, match=said):
            await UnverifiedFirstContact().fetch_unverified_ca(address)


async def test_nobody_there_is_unreachable() -> None:
    """Both ways of looking say so."""
    with pytest.raises(UnreachableError, match="cannot fetch the authority"):
        await UnverifiedFirstContact().fetch_unverified_ca("127.0.0.1:1")
    with pytest.raises(UnreachableError, match="cannot look at the certificate"):
        await UnverifiedFirstContact().fetch_presented_certificate("127.0.0.1:1")


async def test_the_presented_certificate_comes_with_its_names() -> None:
    """What tls_skip_verify pins."""
    async with conforming_server(names=("other.example", "192.0.2.1"), self_signed=True) as server:
        presented = await UnverifiedFirstContact().fetch_presented_certificate(server.address)

    assert (server.certificate_pem, ("other.example", "192.0.2.1")) == (presented.pem, presented.names)
