"""A client of ``agent.v1`` made of nothing but grpcio, generated stubs and the cryptography library.

It behaves as existing agents do (raw Ed25519 key in PEM armour, a CSR that only says ``CN=ct-ops-agent``,
the agent token in the first frame) and knows nothing of our agent, so a test that passes with it shows what
the server does on the wire.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.agent.v1.ingest_pb2_grpc import IngestServiceStub

if TYPE_CHECKING:
    from ct_ops_proto.agent.v1.ingest_pb2_grpc import IngestServiceAsyncStub  # exists in the stubs only

HeartbeatStream = grpc.aio.StreamStreamCall[wire.HeartbeatRequest, wire.HeartbeatResponse]
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def raw_public_pem(key: Ed25519PrivateKey) -> str:
    """Return the form existing agents send: armour around the raw 32 bytes."""
    raw = key.public_key().public_bytes_raw()
    return f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(raw).decode()}\n-----END PUBLIC KEY-----\n"


def make_csr(key: PrivateKey) -> bytes:
    """Return a CSR as existing agents make it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ct-ops-agent")])
    algorithm = None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256()
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)
    return csr.public_bytes(serialization.Encoding.DER)


@dataclass
class Host:
    """A host with a key pair, and what the server gave it."""

    hostname: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    leaf_pem: str = ""
    agent_token: str = ""
    agent_id: str = ""
    os: str = "linux"

    @property
    def key_pem(self) -> bytes:
        """The private key as gRPC wants it."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def request(self, token: str) -> wire.RegisterRequest:
        """Return a Register of this host."""
        return wire.RegisterRequest(
            org_token=token,
            public_key=raw_public_pem(self.key),
            platform_info=wire.PlatformInfo(os=self.os, arch="amd64", ip_addresses=["192.0.2.7", "fe80::1"]),
            agent_info=wire.AgentInfo(version="0.30.2", hostname=self.hostname),
            csr_der=make_csr(self.key),
        )

    def first_frame(self, values: wire.HeartbeatRequest | None = None) -> wire.HeartbeatRequest:
        """Return the first frame of a stream, with other values when there are any."""
        frame = wire.HeartbeatRequest(agent_id=self.agent_token, cpu_percent=12.5, os_version="TestOS")
        frame.MergeFrom(values or wire.HeartbeatRequest())
        return frame


@dataclass(frozen=True)
class Wire:
    """A server's address and the authority to believe there."""

    port: int
    ca_pem: str

    @asynccontextmanager
    async def connect(self, host: Host | None = None) -> AsyncIterator[IngestServiceAsyncStub]:
        """Connect, presenting the host's leaf when it has one."""
        pair = {}
        if host is not None and host.leaf_pem:
            pair = {"private_key": host.key_pem, "certificate_chain": host.leaf_pem.encode()}
        credentials = grpc.ssl_channel_credentials(self.ca_pem.encode(), **pair)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options) as channel:
            yield IngestServiceStub(channel)

    async def register(self, host: Host, token: str) -> wire.RegisterResponse:
        """Register and keep what came back."""
        async with self.connect(host) as stub:
            response = await stub.Register(host.request(token), timeout=20)
        host.agent_id = response.agent_id
        host.agent_token = response.jwt_token or host.agent_token
        host.leaf_pem = response.client_cert_pem or host.leaf_pem
        return response

    async def beat(self, host: Host) -> None:
        """Open a stream as a host that presents what it has, and have one frame acknowledged."""
        async with self.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            await next_reply(stream)
            stream.cancel()


async def next_reply(stream: HeartbeatStream) -> wire.HeartbeatResponse:
    """Return the stream's next reply; a stream that has ended instead is a test that failed."""
    reply = await stream.read()
    assert isinstance(reply, wire.HeartbeatResponse), f"{await stream.code()}: {await stream.details()}"
    return reply


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return ``ct-ops-reason`` of a refusal."""
    metadata = dict(error.trailing_metadata() or ())
    return str(metadata.get("ct-ops-reason", ""))


def insecure_context(*, alpn: list[str]) -> ssl.SSLContext:
    """Return a context that believes everybody: for looking at a handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(alpn)
    return context
