"""A hostile server: it has a good certificate of its own, and passes on what agents say to another server.

What it passes on are an agent's challenge and Register, in the hope that the agent's proof of its key is
good there. ``names_itself`` makes it say that the challenge is its own; else the other server's word for
itself goes through unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.agent.v1.ingest_pb2_grpc import (
    IngestServiceServicer,
    add_IngestServiceServicer_to_server,
)
from wire_client import Wire


@dataclass
class HostileRelay(IngestServiceServicer):
    """Passes on, and remembers."""

    target: Wire
    certificate: x509.Certificate
    names_itself: bool
    port: int = 0
    proven: list[bool] = field(default_factory=list)
    """For each Register that was passed on, whether it carried a proof."""

    reasons: list[str] = field(default_factory=list)
    """What the target answered to those, ``""`` when it let the agent in."""

    async def RegisterChallenge(  # noqa: N802  gRPC's name
        self, request: wire.RegisterChallengeRequest, _context: object
    ) -> wire.RegisterChallengeResponse:
        async with self.target.connect() as stub:
            answer = await stub.RegisterChallenge(request)
        if self.names_itself:
            answer.server_certificate_sha256 = self.certificate.fingerprint(hashes.SHA256())
        return answer

    async def Register(  # noqa: N802  gRPC's name
        self,
        request: wire.RegisterRequest,
        context: grpc.aio.ServicerContext[wire.RegisterRequest, wire.RegisterResponse],
    ) -> wire.RegisterResponse:
        self.proven.append(request.HasField("proof"))
        async with self.target.connect() as stub:
            try:
                answer = await stub.Register(request, timeout=20)
            except grpc.aio.AioRpcError as error:
                metadata = tuple((str(key), str(value)) for key, value in error.trailing_metadata() or ())
                self.reasons.append(dict(metadata).get("ct-ops-reason", ""))
                await context.abort(error.code(), error.details() or "", metadata)
        self.reasons.append("")
        return answer


@asynccontextmanager
async def hostile_relay(
    target: Wire,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    *,
    names_itself: bool,
) -> AsyncIterator[HostileRelay]:
    """Run a relay on loopback."""
    # What it does not pass on answers UNIMPLEMENTED.
    relay = HostileRelay(target, certificate, names_itself)  # type: ignore[abstract]
    server = grpc.aio.server()
    add_IngestServiceServicer_to_server(relay, server)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pair = (key_pem, certificate.public_bytes(Encoding.PEM))
    relay.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield relay
    finally:
        await server.stop(None)
