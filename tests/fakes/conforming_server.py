"""A small server that behaves as existing ones do, for tests of the agent.

It is written from the wire's facts, not from our server: it knows the messages below field 100 only
(its message classes are built from descriptors with everything of ours cut away), issues leaves
from its own authority and RS256 agent tokens, polls, pushes, refuses, drops. It has work done as they do:
checks stand in every reply and in no pushed frame, queries and tasks are pushed, results come in frames and
software in a stream of its own, which counts for nothing unless it ends with the last chunk.

Two layers, because a grpcio server can neither leave the client certificate optional nor take an
Ed25519 one: a TLS terminator on asyncio's streams, and behind it, on a UNIX socket, a `grpc.aio`
server. Each accepted connection is dialled onwards from a random abstract socket name, by which
the gRPC side finds the certificate of the caller.

The terminator also answers ``GET /.well-known/ct-ops/ca.pem`` over http/1.1 when told to publish its
authority, so that first contact by pin can be tested.
"""

import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import secrets
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ct_ops_proto.agent.v1 import ingest_pb2
from ct_ops_proto.enrolment_token import ServerHint, format_token, make_secret

_EXTENSIONS_FROM = 100
_ORGANISATION = "org-1"


def _existing_messages() -> dict[str, Any]:
    """Return message classes that know nothing of ours."""
    file = descriptor_pb2.FileDescriptorProto()
    ingest_pb2.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        kept = [known for known in message.field if known.number < _EXTENSIONS_FROM]
        del message.field[:]
        message.field.extend(kept)
        # Each optional field of ours sat alone in a oneof; those come after all others.
        del message.oneof_decl[len({known.oneof_index for known in kept if known.HasField("oneof_index")}) :]
    del file.service[:]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles([file.name], pool)


_MESSAGES = {name.removeprefix("agent.v1."): kind for name, kind in _existing_messages().items()}
RegisterRequest = _MESSAGES["RegisterRequest"]
RegisterResponse = _MESSAGES["RegisterResponse"]
HeartbeatRequest = _MESSAGES["HeartbeatRequest"]
HeartbeatResponse = _MESSAGES["HeartbeatResponse"]
RenewCertificateRequest = _MESSAGES["RenewCertificateRequest"]
RenewCertificateResponse = _MESSAGES["RenewCertificateResponse"]
SoftwareInventoryChunk = _MESSAGES["SoftwareInventoryChunk"]
SoftwareInventoryAck = _MESSAGES["SoftwareInventoryAck"]


@dataclass
class Agent:
    """A registered agent, as the server sees it."""

    agent_id: str
    public_key: bytes
    status: str
    leaf_pem: str = ""
    leaf_not_after_unix: int = 0


@dataclass
class Authority:
    """A certificate authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The authority's certificate."""
        return self.certificate.public_bytes(Encoding.PEM).decode()


@dataclass
class Script:
    """What the server is told to do otherwise than usual."""

    auto_approve: bool = True
    tokens: set[str] = field(default_factory=lambda: {"tok_opaque"})
    publish_ca: bool = False
    refuse_register: tuple[grpc.StatusCode, str] | None = None
    refuse_stream: tuple[grpc.StatusCode, str] | None = None
    trailing: tuple[tuple[str, str], ...] = ()
    """Trailing metadata of a refusal; existing servers send none."""

    withhold_leaf: int = 0
    """How many active replies go out before the leaf is signed."""

    leaf_lifetime: timedelta = timedelta(days=90)
    leaf_key: bytes | None = None
    """Certify this key instead of the agent's: a server gone wrong."""

    checks: list[dict[str, Any]] = field(default_factory=list)
    """Fields of the definitions in every reply to a frame."""

    break_upload_after: int | None = None
    """Break the next upload of software after so many chunks."""

    stall_upload: bool = False
    """Take the next upload of software and never answer it."""


class ConformingServer:
    """An existing ingest server in miniature, on 127.0.0.1 and a free port."""

    def __init__(self, directory: Path, names: tuple[str, ...] = ("localhost", "127.0.0.1")) -> None:
        self._directory = directory
        self._names = names
        self.script = Script()
        self.agents: dict[str, Agent] = {}
        self.registrations: list[Any] = []
        self.frames: list[Any] = []
        self.callers: list[str | None] = []
        """Common name of the leaf presented on each Register, ``None`` without one."""

        self.stream_leaves: list[str] = []
        """The leaf presented on each stream, as PEM."""

        self.renewals: list[Any] = []
        self.scans: list[list[Any]] = []
        """The chunks of each upload that ended with its last one."""

        self.broken_scans: list[list[Any]] = []
        self.farewells = 0
        """Streams that the agent half-closed."""

        self.ca_requests = 0
        self.port = 0
        self.server_ca = make_authority("Conforming Server CA")
        self.agent_ca = make_authority("Conforming Agent CA")
        self._token_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._leaves: dict[str, x509.Certificate | None] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._streams: set[asyncio.Queue[Any]] = set()
        self._changed = asyncio.Condition()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"localhost:{self.port}"

    def token(self, *, address: str | None = None, pin: bytes | None = None) -> str:
        """Return an enrolment token of ours that points here, its secret part known to the server."""
        secret = make_secret(secrets.token_bytes(20))
        self.script.tokens.add(secret)
        digest = hashlib.sha256(self.server_ca.certificate.public_bytes(Encoding.DER)).digest()
        return format_token(secret, ServerHint(pin or digest, (address or self.address,)))

    async def start(self, *, self_signed: bool = False, port: int = 0) -> None:
        """Listen."""
        self._upstream = str(self._directory / "grpc.sock")
        self._grpc = grpc.aio.server()
        self._grpc.add_generic_rpc_handlers((self._handlers(),))
        self._grpc.add_insecure_port(f"unix:{self._upstream}")
        await self._grpc.start()
        context = self._tls_context(self_signed=self_signed)
        self._door = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=context)
        self.port = self._door.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        self._door.close()
        await self.drop_connections()
        await self._door.wait_closed()
        await self._grpc.stop(None)

    async def drop_connections(self) -> None:
        """Cut every connection, as a crash or a firewall would."""
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def push(self, **fields: Any) -> None:
        """Send a frame unasked on every live stream."""
        for stream in self._streams:
            stream.put_nowait(HeartbeatResponse(ok=True, **fields))

    @property
    def check_results(self) -> list[Any]:
        """What checks found, as it came."""
        return [result for frame in self.frames for result in frame.check_results]

    @property
    def query_results(self) -> list[Any]:
        """Answers to queries, as they came."""
        return [result for frame in self.frames for result in frame.query_results]

    @property
    def task_results(self) -> list[Any]:
        """How tasks ended, as it came."""
        return [result for frame in self.frames for result in frame.task_results]

    def task_output(self, task_id: str) -> str:
        """What a task said, in the order in which it came."""
        pieces = (piece for frame in self.frames for piece in frame.task_progress)
        return "".join(piece.output_chunk for piece in pieces if piece.task_id == task_id)

    def push_garbage(self) -> None:
        """Send bytes that are no message on every live stream."""
        for stream in self._streams:
            stream.put_nowait(b"\xff\xff")

    def end_streams(self, code: grpc.StatusCode, text: str) -> None:
        """End every live stream with a status."""
        for stream in self._streams:
            stream.put_nowait((code, text))

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to have happened here."""
        async with self._changed, asyncio.timeout(20):
            await self._changed.wait_for(condition)

    # ---- what it answers ---------------------------------------------------------------------

    async def _register(self, request: Any, context: Any) -> Any:
        caller = self._leaves.get(context.peer())
        self.callers.append(_common_name(caller) if caller else None)
        self.registrations.append(request)
        await self._tell()
        if self.script.refuse_register:
            context.set_trailing_metadata(self.script.trailing)
            await context.abort(*self.script.refuse_register)
        if not request.org_token or not request.public_key:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "org_token and public_key are required")
        if request.org_token not in self.script.tokens:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "invalid or expired enrolment token")
        return self._reply_to(self._known(_raw_key(request.public_key)), request)

    def _known(self, key: bytes) -> Agent:
        for agent in self.agents.values():
            if agent.public_key == key:
                return agent
        status = "active" if self.script.auto_approve else "pending"
        agent = Agent(f"agent-{len(self.agents) + 1}", key, status)
        self.agents[agent.agent_id] = agent
        return agent

    def _reply_to(self, agent: Agent, request: Any) -> Any:
        if agent.status != "active":
            return RegisterResponse(
                agent_id=agent.agent_id, status=agent.status, message=f"agent is {agent.status}"
            )
        reply = RegisterResponse(agent_id=agent.agent_id, status="active", jwt_token=self._agent_token(agent))
        if self.script.withhold_leaf > 0:
            self.script.withhold_leaf -= 1
            return reply
        self._issue(agent, request.csr_der)
        reply.client_cert_pem = agent.leaf_pem
        reply.agent_ca_cert_pem = self.agent_ca.pem
        reply.client_cert_not_after_unix = agent.leaf_not_after_unix
        return reply

    async def _heartbeat(self, requests: AsyncIterator[Any], context: Any) -> None:
        leaf = self._leaves.get(context.peer())
        first = await anext(requests)
        if leaf is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "client certificate required for this RPC")
            return
        self.stream_leaves.append(leaf.public_bytes(Encoding.PEM).decode())
        await self._tell()
        if refusal := self.script.refuse_stream or self._refusal_of(first.agent_id):
            context.set_trailing_metadata(self.script.trailing)
            await context.abort(*refusal)
        outgoing: asyncio.Queue[Any] = asyncio.Queue()
        self._streams.add(outgoing)
        reading = asyncio.create_task(self._read(first, requests, outgoing))
        try:
            while (reply := await outgoing.get()) is not None:
                if isinstance(reply, tuple):
                    context.set_trailing_metadata(self.script.trailing)
                    await context.abort(*reply)
                await context.write(reply)
        finally:
            self._streams.discard(outgoing)
            reading.cancel()

    async def _renew(self, request: Any, context: Any) -> Any:
        self.renewals.append(request)
        await self._tell()
        agent = self.agents[request.agent_id]
        leaf = self._leaves.get(context.peer())
        if leaf is None or _common_name(leaf) != agent.agent_id:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "client certificate required for this RPC")
        self._issue(agent, request.csr_der)
        return RenewCertificateResponse(
            client_cert_pem=agent.leaf_pem,
            client_cert_not_after_unix=agent.leaf_not_after_unix,
            agent_ca_cert_pem=self.agent_ca.pem,
        )

    async def _take_software(self, requests: AsyncIterator[Any], context: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        refusal = self._refusal_of(metadata.get("authorization", "").removeprefix("Bearer "))
        if self._leaves.get(context.peer()) is None:
            refusal = grpc.StatusCode.UNAUTHENTICATED, "client certificate required for this RPC"
        if refusal:
            await context.abort(*refusal)
        breaks_after, self.script.break_upload_after = self.script.break_upload_after, None
        chunks: list[Any] = []
        async for chunk in requests:
            chunks.append(chunk)
            if len(chunks) == breaks_after:
                break
        is_whole = bool(chunks) and chunks[-1].is_last and breaks_after is None
        stalls, self.script.stall_upload = self.script.stall_upload, False
        (self.scans if is_whole and not stalls else self.broken_scans).append(chunks)
        await self._tell()
        if stalls:
            await asyncio.Event().wait()
        if breaks_after is not None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        return SoftwareInventoryAck(received=sum(len(chunk.packages) for chunk in chunks))

    def push_leaf(self, agent_id: str) -> str:
        """Send an agent another leaf for its key, as existing servers do after an approval; return it."""
        agent = self.agents[agent_id]
        ends = datetime.now(UTC) + timedelta(days=80)
        public = Ed25519PublicKey.from_public_bytes(agent.public_key)
        leaf_pem = issue_leaf(self.agent_ca, agent_id, public, ends)
        self.push(
            pending_client_cert_pem=leaf_pem,
            pending_client_cert_not_after_unix=int(ends.timestamp()),
            agent_ca_cert_pem=self.agent_ca.pem,
        )
        return leaf_pem

    async def _read(self, first: Any, requests: AsyncIterator[Any], outgoing: asyncio.Queue[Any]) -> None:
        await self._take(first, outgoing)
        async for frame in requests:
            await self._take(frame, outgoing)
        self.farewells += 1
        outgoing.put_nowait(None)

    async def _take(self, frame: Any, outgoing: asyncio.Queue[Any]) -> None:
        self.frames.append(frame)
        outgoing.put_nowait(HeartbeatResponse(ok=True, checks=self.script.checks))
        await self._tell()

    def _refusal_of(self, agent_token: str) -> tuple[grpc.StatusCode, str] | None:
        try:
            claims = jwt.decode(agent_token, self._token_key.public_key(), algorithms=["RS256"])
        except jwt.InvalidTokenError:
            return grpc.StatusCode.UNAUTHENTICATED, "invalid token"
        agent = self.agents.get(claims["sub"])
        if agent is None:
            return grpc.StatusCode.NOT_FOUND, "agent not found"
        if agent.status != "active":
            return grpc.StatusCode.PERMISSION_DENIED, f"agent is {agent.status}"
        return None

    def _agent_token(self, agent: Agent) -> str:
        now = datetime.now(UTC)
        claims = {"sub": agent.agent_id, "iss": "ct-ops-ingest", "iat": now, "exp": now + timedelta(hours=24)}
        return jwt.encode(claims, self._token_key, algorithm="RS256")

    def _issue(self, agent: Agent, csr_der: bytes) -> None:
        csr = x509.load_der_x509_csr(csr_der)
        assert csr.is_signature_valid
        public = csr.public_key()
        assert isinstance(public, Ed25519PublicKey)
        assert public.public_bytes_raw() == agent.public_key
        if self.script.leaf_key:
            public = Ed25519PublicKey.from_public_bytes(self.script.leaf_key)
        ends = datetime.now(UTC) + self.script.leaf_lifetime
        agent.leaf_pem = issue_leaf(self.agent_ca, agent.agent_id, public, ends)
        agent.leaf_not_after_unix = int(ends.timestamp())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "agent.v1.IngestService",
            {
                "Register": grpc.unary_unary_rpc_method_handler(
                    self._register, RegisterRequest.FromString, RegisterResponse.SerializeToString
                ),
                "RenewCertificate": grpc.unary_unary_rpc_method_handler(
                    self._renew,
                    RenewCertificateRequest.FromString,
                    RenewCertificateResponse.SerializeToString,
                ),
                "SubmitSoftwareInventory": grpc.stream_unary_rpc_method_handler(
                    self._take_software,
                    SoftwareInventoryChunk.FromString,
                    SoftwareInventoryAck.SerializeToString,
                ),
                "Heartbeat": grpc.stream_stream_rpc_method_handler(
                    self._heartbeat, HeartbeatRequest.FromString, _serialize
                ),
            },
        )

    # ---- the TLS terminator ------------------------------------------------------------------

    def _tls_context(self, *, self_signed: bool) -> ssl.SSLContext:
        signer = None if self_signed else self.server_ca
        certificate, key = make_server_certificate(signer, self._names)
        self.certificate_pem = certificate.public_bytes(Encoding.PEM).decode()
        file = self._directory / "server.pem"
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with file.open("a") as both:
            both.write(self.certificate_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.agent_ca.pem)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() != "h2":
            await self._serve_http(reader, writer)
            return
        der = tls.getpeercert(binary_form=True)
        name = f"\0conforming-{secrets.token_hex(8)}"
        self._leaves[f"unix-abstract:{name[1:]}"] = x509.load_der_x509_certificate(der) if der else None
        upstream = socket.socket(socket.AF_UNIX)
        upstream.bind(name)
        upstream.settimeout(0)
        try:
            await asyncio.get_running_loop().sock_connect(upstream, self._upstream)
            up_reader, up_writer = await asyncio.open_unix_connection(sock=upstream)
        except BaseException:
            upstream.close()
            raise
        try:
            pumps = {
                asyncio.ensure_future(pump(reader, up_writer)),
                asyncio.ensure_future(pump(up_reader, writer)),
            }
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pumping in pumps:
                    pumping.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            up_writer.transport.abort()

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.ca_requests += 1
        assert b"tok_" not in head, "first contact must not send the token"
        found = self.script.publish_ca and head.startswith(b"GET /.well-known/ct-ops/ca.pem ")
        body = self.server_ca.pem.encode() if found else b""
        status = b"200 OK" if found else b"404 Not Found"
        head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body))
        writer.write(head + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def _serialize(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until the end."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def conforming_server(
    *, names: tuple[str, ...] = ("localhost", "127.0.0.1"), self_signed: bool = False
) -> AsyncIterator[ConformingServer]:
    """Run a server for the length of a block."""
    with tempfile.TemporaryDirectory() as directory:
        server = ConformingServer(Path(directory), names)
        await server.start(self_signed=self_signed)
        try:
            yield server
        finally:
            await server.stop()


def make_authority(name: str) -> Authority:
    """Make a P-256 authority that lasts ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, name, ends=_in_days(3650)).public_key(key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def make_server_certificate(
    signer: Authority | None, names: tuple[str, ...]
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Make a server certificate, self-signed without a signer."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = "Conforming Server CA" if signer else "ingest"
    builder = _builder("ingest", issuer, ends=_in_days(30)).public_key(key.public_key())
    builder = builder.add_extension(
        x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
    )
    return builder.sign(signer.key if signer else key, hashes.SHA256()), key


def issue_leaf(authority: Authority, agent_id: str, public: Ed25519PublicKey, ends: datetime) -> str:
    """Issue an agent's certificate as existing servers do."""
    uri = f"spiffe://ct-ops/org/{_ORGANISATION}/agent/{agent_id}"
    builder = (
        _builder(agent_id, "Conforming Agent CA", ends=ends)
        .public_key(public)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _builder(subject: str, issuer: str, *, ends: datetime) -> x509.CertificateBuilder:
    begins = min(datetime.now(UTC), ends) - timedelta(days=1)  # also for what has ended already
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _in_days(days: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _raw_key(pem: str) -> bytes:
    """Return the raw 32 bytes that existing servers expect inside PEM armour."""
    lines = pem.strip().splitlines()
    assert lines[0] == "-----BEGIN PUBLIC KEY-----"
    raw = base64.b64decode("".join(lines[1:-1]))
    assert len(raw) == 32
    return raw
