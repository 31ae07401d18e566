"""What checks look at, for tests: certificates of any kind, and small servers on loopback.

Each server is given bytes to say or a function of its connection; it listens on a free port of one address, and
ends with the block. `speak` plays the half of a server in the dialogue before TLS.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ct_ops_agent.checks.attempt import Attempt
from ct_ops_agent.checks.verdict import Verdict

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ConfigT = TypeVar("ConfigT")

IPV6 = (
    socket.has_ipv6 and Path("/proc/net/if_inet6").exists() and "lo" in Path("/proc/net/if_inet6").read_text()
)


async def run(
    probe: Callable[[ConfigT, Attempt], Verdict], config: ConfigT, seconds: float = 10.0
) -> Verdict:
    """Run a probe as the runner does: in a thread, given up when the time is over. It has to end then."""
    attempt = Attempt(seconds)
    giving_up = asyncio.get_running_loop().call_later(seconds + 0.25, attempt.give_up)
    try:
        return await asyncio.to_thread(probe, config, attempt)
    finally:
        giving_up.cancel()


@dataclass(frozen=True)
class Signed:
    """A certificate with its key and the certificates above it."""

    certificate: x509.Certificate
    key: PrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> str:
        """The certificate and those above it."""
        return "".join(each.public_bytes(Encoding.PEM).decode() for each in (self.certificate, *self.above))

    @property
    def key_pem(self) -> str:
        """The private key."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def context(self, folder: Path) -> ssl.SSLContext:
        """Return a server's TLS context with it."""
        file = folder / "server.pem"
        file.write_text(self.key_pem + self.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def sign(
    name: str = "web-1",
    *,
    by: Signed | None = None,
    key: PrivateKey | None = None,
    names: Sequence[x509.GeneralName] = (),
    begins: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=90),
    is_ca: bool = False,
) -> Signed:
    """Issue a certificate, self-signed without a signer."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    issuer = by.certificate.subject if by else _name(name)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = by.key if by else key
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    above = (by.certificate, *by.above) if by else ()
    return Signed(builder.sign(signer, digest), key, above)


LOCAL_NAMES = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@asynccontextmanager
async def listening(
    serve: Serve, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve connections; yield the port."""
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.transport.abort()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving[asyncio.ensure_future(converse(reader, writer))] = writer

    server = await asyncio.start_server(accepted, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await _let_the_loop_turn()  # asyncio loses who is accepted while it closes
        server.close()
        for task, writer in serving.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*serving, return_exceptions=True)
        await _let_the_loop_turn()  # and what was aborted is closed


async def _let_the_loop_turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def silence(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Accept and say nothing, for ever."""
    await asyncio.Event().wait()


def saying(*lines: bytes) -> Serve:
    """Return a server that says this and hangs up."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(lines))
        writer.close()
        await writer.wait_closed()

    return serve


def endlessly(piece: bytes, pause: float = 0.0) -> Serve:
    """Return a server that says this again and again."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return serve


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port on which nobody listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


async def _dialogue_smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220-mail.example.com\r\n220 ESMTP ready\r\n")
    assert (await reader.readline()).upper().startswith(b"EHLO ")
    writer.write(b"250-mail.example.com greets you\r\n250-SIZE 1000\r\n250-StartTLS\r\n250 HELP\r\n")
    assert b"STARTTLS\r\n" == await reader.readline()
    writer.write(b"220 go ahead\r\n")


async def _dialogue_imap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"* OK IMAP4rev2 ready\r\n")
    tag, _, command = (await reader.readline()).partition(b" ")
    assert b"STARTTLS\r\n" == command
    writer.write(b"* CAPABILITY IMAP4rev2\r\n" + tag + b" OK begin TLS\r\n")


async def _dialogue_pop3(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"+OK POP3 ready\r\n")
    assert b"STLS\r\n" == await reader.readline()
    writer.write(b"+OK begin TLS\r\n")


async def _dialogue_postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert bytes.fromhex("00000008 04d2162f") == await reader.readexactly(8)
    writer.write(b"S")


DIALOGUES: dict[str, Serve] = {
    "smtp": _dialogue_smtp,
    "imap": _dialogue_imap,
    "pop3": _dialogue_pop3,
    "postgres": _dialogue_postgres,
}


def upgrading(protocol: str, tls: ssl.SSLContext) -> Serve:
    """Return a server that speaks a protocol and then begins TLS."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await DIALOGUES[protocol](reader, writer)
        await writer.drain()
        await writer.start_tls(tls)
        await reader.read()

    return serve
