"""The fake is what it claims: a plain client finds an existing server there."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from ct_ops_agent.identity.certificates import make_csr, make_key_pair
from ct_ops_proto.agent.v1 import ingest_pb2 as pb
from ct_ops_proto.agent.v1.ingest_pb2_grpc import IngestServiceStub
from fakes.conforming_server import ConformingServer, conforming_server

KEYS = make_key_pair()


@pytest.fixture
async def server() -> AsyncIterator[ConformingServer]:
    async with conforming_server() as running:
        yield running


def channel(server: ConformingServer, leaf_pem: str = "") -> grpc.aio.Channel:
    pair = (KEYS.private_pem.reveal().encode(), leaf_pem.encode()) if leaf_pem else ()
    return grpc.aio.secure_channel(
        server.address, grpc.ssl_channel_credentials(server.server_ca.pem.encode(), *pair)
    )


def stub(plain: grpc.aio.Channel) -> Any:
    return IngestServiceStub(plain)


def request(token: str = "tok_opaque") -> pb.RegisterRequest:
    return pb.RegisterRequest(org_token=token, public_key=KEYS.public_pem, csr_der=make_csr(KEYS))


async def register(server: ConformingServer) -> pb.RegisterResponse:
    async with channel(server) as plain:
        reply: pb.RegisterResponse = await stub(plain).Register(request())
    return reply


async def test_registering_again_gives_the_same_agent(server: ConformingServer) -> None:
    """A known key keeps its id; the reply holds a leaf, its authority and an agent token."""
    first, second = await register(server), await register(server)

    assert ("agent-1", "agent-1", "active") == (first.agent_id, second.agent_id, first.status)
    assert first.jwt_token
    assert "BEGIN CERTIFICATE" in first.client_cert_pem
    assert "BEGIN CERTIFICATE" in first.agent_ca_cert_pem


async def test_an_unknown_token_is_unauthenticated(server: ConformingServer) -> None:
    """With the text of existing servers."""
    async with channel(server) as plain:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub(plain).Register(request("tok_wrong"))

    assert (grpc.StatusCode.UNAUTHENTICATED, "invalid or expired enrolment token") == (
        refused.value.code(),
        refused.value.details(),
    )


async def test_a_stream_needs_a_client_certificate(server: ConformingServer) -> None:
    """Optional at the handshake, required by the method."""
    async with channel(server) as plain:
        stream = stub(plain).Heartbeat()
        await stream.write(pb.HeartbeatRequest(agent_id="agent-1"))
        with pytest.raises(grpc.aio.AioRpcError, match="client certificate required for this RPC"):
            await stream.read()


async def test_every_frame_is_answered_and_ours_are_ignored(server: ConformingServer) -> None:
    """A Hello gets no Welcome: this server does not know it."""
    reply = await register(server)
    async with channel(server, reply.client_cert_pem) as plain:
        stream = stub(plain).Heartbeat()
        await stream.write(pb.HeartbeatRequest(agent_id=reply.jwt_token, hello=pb.Hello(boot_id="b")))
        answer = await stream.read()
        await stream.done_writing()

    assert (True, False) == (answer.ok, answer.HasField("welcome"))


async def test_a_raw_agent_id_opens_no_stream(server: ConformingServer) -> None:
    """The first frame carries the agent token; the id alone is UNAUTHENTICATED."""
    reply = await register(server)
    async with channel(server, reply.client_cert_pem) as plain:
        stream = stub(plain).Heartbeat()
        await stream.write(pb.HeartbeatRequest(agent_id=reply.agent_id))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()

    assert grpc.StatusCode.UNAUTHENTICATED == refused.value.code()
