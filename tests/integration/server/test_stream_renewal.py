"""Token, leaf and key renewed on the running stream, over real TLS; and existing agents sent to renew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.key_proof import rotation_text
from ct_ops_server.config.schema import Settings
from real_server import RealServer, real_server
from wire_client import HeartbeatStream, Host, make_csr, next_reply, reason_of

HELLO = wire.HeartbeatRequest(hello=wire.Hello(features=["renewal"], interval_s=30))


@asynccontextmanager
async def connected(
    server: RealServer, host: Host, first: wire.HeartbeatRequest = HELLO
) -> AsyncIterator[tuple[HeartbeatStream, wire.HeartbeatResponse]]:
    """Yield a stream and the reply to its first frame."""
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame(first))
        yield stream, await next_reply(stream)
        stream.cancel()


async def renew(stream: HeartbeatStream, host: Host, renewal: wire.RenewalRequest) -> wire.RenewalResponse:
    """Ask beside a heartbeat."""
    await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, renewal=renewal))
    return (await next_reply(stream)).renewed


async def refusal_of(stream: HeartbeatStream) -> str:
    """Return why the stream ended."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await read_to_the_end(stream)
    return reason_of(refusal.value)


async def read_to_the_end(stream: HeartbeatStream) -> None:
    """Read until the stream ends; raise what it ended with."""
    while await stream.read() is not grpc.aio.EOF:
        pass


def rotation(host: Host, key: Ed25519PrivateKey, *, leaf_pem: str = "") -> wire.RenewalRequest:
    """Return a request for ``key`` to follow the host's, proven as the protocol wants it."""
    leaf = x509.load_pem_x509_certificate((leaf_pem or host.leaf_pem).encode())
    leaf_der, csr_der = leaf.public_bytes(serialization.Encoding.DER), make_csr(key)
    digest = leaf.fingerprint(hashes.SHA256())
    signature = key.sign(rotation_text(leaf_der=leaf_der, csr_der=csr_der))
    return wire.RenewalRequest(csr_der=csr_der, proof=wire.KeyProof(nonce=digest, signature=signature))


async def test_the_welcome_names_the_ability_and_every_reply_the_time(server: RealServer) -> None:
    """An agent uses only what the server has named, and can compare clocks at every heartbeat."""
    host = await server.enrolled("web-1")
    async with connected(server, host) as (stream, first):
        await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, clock_skew_ms=-2_500))
        second = await next_reply(stream)
        shown = await server.agent(host)

    assert "renewal" in first.welcome.features
    assert 0 < first.server_time_ms <= second.server_time_ms
    assert -2.5 == shown["clock_skew_s"]


async def test_an_agent_token_is_renewed_on_the_stream(settings: Settings) -> None:
    """The new one is good for a day from now, and opens a stream."""
    clock = [datetime.now(UTC)]
    async with real_server(settings, now=lambda: clock[0]) as server:
        host = await server.enrolled("web-1")
        async with connected(server, host) as (stream, _):
            clock[0] += timedelta(hours=16)
            renewed = await renew(stream, host, wire.RenewalRequest())
        host.agent_token = renewed.agent_token
        async with connected(server, host) as (_, reply):
            assert reply.ok

    assert renewed.agent_token
    assert "" == renewed.client_cert_pem


async def test_a_leaf_is_renewed_on_the_stream_with_a_token_for_it(settings: Settings) -> None:
    """The stream goes on; the next connection presents the new leaf."""
    clock = [datetime.now(UTC)]
    async with real_server(settings, now=lambda: clock[0]) as server:
        host = await server.enrolled("web-1")
        async with connected(server, host) as (stream, _):
            clock[0] += timedelta(days=50)
            renewed = await renew(stream, host, wire.RenewalRequest(csr_der=make_csr(host.key)))
            await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id))
            assert (await next_reply(stream)).ok
        host.leaf_pem, host.agent_token = renewed.client_cert_pem, renewed.agent_token
        clock[0] += timedelta(days=80)
        async with connected(server, host) as (_, reply):
            assert reply.ok

    assert renewed.client_cert_not_after_unix > (clock[0] + timedelta(days=9)).timestamp()


async def test_one_stream_renews_one_leaf(server: RealServer) -> None:
    """An agent that asks for leaves without end is told to reconnect."""
    host = await server.enrolled("web-1")
    async with connected(server, host) as (stream, _):
        request = wire.RenewalRequest(csr_der=make_csr(host.key))
        await renew(stream, host, request)
        await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, renewal=request))

        assert "one_leaf_a_stream" == await refusal_of(stream)


async def test_attack_an_agent_that_reconnects_for_leaf_after_leaf_is_told_to_wait(
    server: RealServer,
) -> None:
    """Each would be a signature, a row and an entry of the audit log; others are served all the while."""
    host, other = await server.enrolled("greedy"), await server.enrolled("other")
    request = wire.RenewalRequest(csr_der=make_csr(host.key))
    for _ in range(6):
        async with connected(server, host) as (stream, _):
            await renew(stream, host, request)
    async with connected(server, host) as (stream, _):
        await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, renewal=request))
        assert "leaves_of_agent" == await refusal_of(stream)
    async with connected(server, other) as (stream, _):
        renewed = await renew(stream, other, wire.RenewalRequest(csr_der=make_csr(other.key)))

    assert renewed.client_cert_pem


async def test_a_key_is_followed_by_another_and_the_old_one_is_worth_nothing(server: RealServer) -> None:
    """The new key serves; the old key's leaf opens no stream, and its key no door."""
    host = await server.enrolled("web-1")
    old = Host("web-1", host.key, host.leaf_pem, host.agent_token, host.agent_id)
    new_key = Ed25519PrivateKey.generate()
    async with connected(server, host) as (stream, _):
        renewed = await renew(stream, host, rotation(host, new_key))
    new = Host("web-1", new_key, renewed.client_cert_pem, renewed.agent_token, host.agent_id)
    async with connected(server, new) as (_, reply):
        assert reply.ok
    async with server.wire.connect(old) as stub:
        stream = stub.Heartbeat()
        await stream.write(old.first_frame(HELLO))
        assert "key_replaced" == await refusal_of(stream)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await server.wire.register(old, "")

    assert "token_missing" == reason_of(refusal.value)


async def test_attack_a_key_that_did_not_ask_cannot_be_named_as_the_next(server: RealServer) -> None:
    """Somebody else's CSR, seen in passing, is no proof that its key wants to be this agent's."""
    host, other = await server.enrolled("web-1"), Host("other")
    stolen = wire.RenewalRequest(csr_der=make_csr(other.key))
    async with connected(server, host) as (stream, _):
        await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, renewal=stolen))
        assert "rotation_unproven" == await refusal_of(stream)


async def test_attack_a_rotation_made_for_another_agent_is_refused(server: RealServer) -> None:
    """The proof names the leaf that is followed."""
    host, other = await server.enrolled("web-1"), await server.enrolled("web-2")
    request = rotation(host, Ed25519PrivateKey.generate(), leaf_pem=other.leaf_pem)
    async with connected(server, host) as (stream, _):
        await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, renewal=request))
        assert "rotation_unproven" == await refusal_of(stream)


async def test_a_key_that_another_agent_holds_cannot_follow(server: RealServer) -> None:
    """One key, one agent."""
    host, other = await server.enrolled("web-1"), await server.enrolled("web-2")
    async with connected(server, host) as (stream, _):
        renewal = rotation(host, other.key)
        await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, renewal=renewal))
        assert "rotation_key_taken" == await refusal_of(stream)


async def test_an_existing_agent_is_sent_to_renew_once_and_then_left_alone(settings: Settings) -> None:
    """When a third of its leaf's life is left, after a reply; whoever comes back with that leaf is served."""
    clock = [datetime.now(UTC)]
    existing = wire.HeartbeatRequest()
    async with real_server(settings, now=lambda: clock[0]) as server:
        host = await server.enrolled("web-1")
        async with connected(server, host, existing) as (stream, _):
            clock[0] += timedelta(days=66)
            await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id))
            assert (await next_reply(stream)).ok
            assert "renew_leaf" == await refusal_of(stream)
        async with connected(server, host, existing) as (stream, _):
            await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id))
            assert (await next_reply(stream)).ok


async def test_an_agent_that_renews_itself_is_not_sent_away(settings: Settings) -> None:
    """Ours renew on the stream, in their own time."""
    clock = [datetime.now(UTC)]
    async with real_server(settings, now=lambda: clock[0]) as server:
        host = await server.enrolled("web-1")
        async with connected(server, host) as (stream, _):
            clock[0] += timedelta(days=66)
            for _ in range(2):
                await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id))
                assert (await next_reply(stream)).ok


async def test_a_leaf_that_expires_on_an_open_stream_ends_it(settings: Settings) -> None:
    """A connection is no way to outlive one's certificate."""
    clock = [datetime.now(UTC)]
    async with real_server(settings, now=lambda: clock[0]) as server:
        host = await server.enrolled("web-1")
        async with connected(server, host) as (stream, _):
            clock[0] += timedelta(days=91)
            await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id))
            assert "leaf_expired" == await refusal_of(stream)
