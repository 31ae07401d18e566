"""Odd messages over real TLS: each a typed refusal, one log line without secrets, nobody else disturbed."""

from __future__ import annotations

import logging

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from real_server import RealServer
from wire_client import Host, Wire, reason_of


async def raw_unary(server: Wire, method: str, payload: bytes, host: Host | None = None) -> bytes:
    """Send bytes that no generated stub would send."""
    pair = {}
    if host is not None:
        pair = {"private_key": host.key_pem, "certificate_chain": host.leaf_pem.encode()}
    credentials = grpc.ssl_channel_credentials(server.ca_pem.encode(), **pair)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials, options) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/agent.v1.IngestService/{method}"
        )
        reply: bytes = await call(payload, timeout=10)
    return reply


async def refusal_of(
    server: RealServer, method: str, payload: bytes, host: Host | None = None
) -> tuple[grpc.StatusCode, str]:
    """Return status and reason."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await raw_unary(server.wire, method, payload, host)
    return refusal.value.code(), reason_of(refusal.value)


async def test_attack_bytes_that_are_no_message_are_refused_by_name(sqlite_server: RealServer) -> None:
    """In the lobby and with a leaf."""
    host = await sqlite_server.enrolled("odd-1")
    lobby = await refusal_of(sqlite_server, "Register", b"\xff\xff\xff")
    agents = await refusal_of(sqlite_server, "RenewCertificate", b"\xff\xff\xff", host)

    malformed = (grpc.StatusCode.INVALID_ARGUMENT, "message_malformed")
    assert (malformed, malformed) == (lobby, agents)


@pytest.mark.parametrize("excess_bytes", [1, 64 * 1024 * 2])
async def test_attack_an_oversized_register_is_refused_in_the_lobby(
    sqlite_server: RealServer, excess_bytes: int
) -> None:
    """Just beyond the limit and far beyond it: the sentence names both sizes."""
    refusal = await refusal_of(sqlite_server, "Register", b"\0" * (64 * 1024 + excess_bytes))

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "message_too_large") == refusal


async def test_a_method_that_is_reserved_answers_unimplemented(sqlite_server: RealServer) -> None:
    """Existing agents reconnect later instead of wiping themselves."""
    host = await sqlite_server.enrolled("odd-2")
    code, _ = await refusal_of(sqlite_server, "Terminal", b"", host)

    assert grpc.StatusCode.UNIMPLEMENTED is code


async def test_attack_a_later_frame_in_anothers_name_ends_the_stream(sqlite_server: RealServer) -> None:
    """The leaf says who speaks; a frame that says otherwise is refused and stored nowhere."""
    host, victim = await sqlite_server.enrolled("odd-3"), await sqlite_server.enrolled("odd-4")
    async with sqlite_server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        await stream.read()
        await stream.write(wire.HeartbeatRequest(agent_id=victim.agent_id, cpu_percent=99))
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stream.read()
    shown = await sqlite_server.agent(victim)

    assert (grpc.StatusCode.INVALID_ARGUMENT, "agent_id_mismatch") == (
        refusal.value.code(),
        reason_of(refusal.value),
    )
    assert (shown["online"], shown["vitals"]) == (False, None)


async def test_a_refused_register_is_one_log_line_without_the_token(
    sqlite_server: RealServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator reads why and from where; the secret is read by nobody."""
    token = await sqlite_server.token(max_uses=1)
    await sqlite_server.wire.register(Host("odd-5"), token)
    with caplog.at_level(logging.INFO), pytest.raises(grpc.aio.AioRpcError):
        await sqlite_server.wire.register(Host("odd-6"), token)
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]

    assert 1 == len(lines)
    assert "127.0.0.1" in lines[0]
    assert "no use left" in lines[0]
    assert token.split(".")[0] not in caplog.text
