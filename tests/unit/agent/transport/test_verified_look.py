"""A look at the server's certificate believes exactly what the agent's connections believe."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ct_ops_agent.control_plane import Route
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.transport.verified_look import look_at_server
from fakes.conforming_server import Authority, make_authority, make_server_certificate

AUTHORITY = make_authority("Conforming Server CA")
STRANGER = make_authority("Conforming Server CA")
OTHERS = "".join(make_authority(f"Root {number}").pem for number in range(3))


@asynccontextmanager
async def server(
    folder: Path, names: tuple[str, ...] = ("localhost",), signer: Authority | None = AUTHORITY
) -> AsyncIterator[tuple[str, bytes]]:
    """Run a TLS server; yield its port as text, and its certificate."""
    certificate, key = make_server_certificate(signer, names)
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    running = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
    async with running:
        yield str(running.sockets[0].getsockname()[1]), certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "roots", [AUTHORITY.pem, OTHERS + AUTHORITY.pem, "# naïve comment\n" + AUTHORITY.pem + OTHERS]
)
async def test_the_certificate_is_seen_under_one_root_or_many(tmp_path: Path, roots: str) -> None:
    """Whatever else stands in the bundle."""
    async with server(tmp_path) as (port, certificate):
        address = f"localhost:{port}"

        assert certificate == await look_at_server(Route((address,), roots), address)


async def test_the_systems_roots_are_believed_without_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gRPC does."""
    file = tmp_path / "roots.pem"
    file.write_text(OTHERS + AUTHORITY.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with server(tmp_path) as (port, certificate):
        address = f"localhost:{port}"

        assert certificate == await look_at_server(Route((address,), ""), address)


@pytest.mark.parametrize("signer", [None, AUTHORITY], ids=["self-signed", "signed by somebody"])
async def test_a_certificate_that_was_pinned_itself_is_believed_for_the_name_in_it(
    tmp_path: Path, signer: Authority | None
) -> None:
    """`tls_skip_verify` pins what the server shows first, whoever signed it."""
    async with server(tmp_path, ("elsewhere.example.com",), signer) as (port, certificate):
        address = f"127.0.0.1:{port}"
        route = Route((address,), ssl.DER_cert_to_PEM_cert(certificate), "elsewhere.example.com")

        assert certificate == await look_at_server(route, address)


@pytest.mark.parametrize(
    ("roots", "names"),
    [(STRANGER.pem, ("localhost",)), (OTHERS, ("localhost",)), (AUTHORITY.pem, ("other.example.com",))],
    ids=["same name, another key", "none of many", "another host's"],
)
async def test_attack_a_certificate_that_is_not_this_servers_is_not_seen(
    tmp_path: Path, roots: str, names: tuple[str, ...]
) -> None:
    """A relay cannot show the certificate of the server it relays to."""
    async with server(tmp_path, names) as (port, _):
        address = f"localhost:{port}"
        with pytest.raises(UnreachableError, match=f"cannot look at the certificate of {address}"):
            await look_at_server(Route((address,), roots), address)


async def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    """No other error leaves: the caller knows what to do about this one."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UnreachableError):
            await look_at_server(Route((address,), AUTHORITY.pem), address)


async def test_roots_that_are_no_certificates_are_unreachable_too(tmp_path: Path) -> None:
    """A damaged bundle keeps from proving the key, not from everything else."""
    damaged = ssl.DER_cert_to_PEM_cert(b"no certificate")
    async with server(tmp_path) as (port, _):
        address = f"localhost:{port}"
        with pytest.raises(UnreachableError):
            await look_at_server(Route((address,), damaged), address)
