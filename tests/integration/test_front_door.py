"""What happens before gRPC, and on http/1.1."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import ssl
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.authority.sealing import load_key, load_or_create_secret
from real_server import RealServer, real_server, settings_for, tighter
from wire_client import Host, insecure_context, next_reply, reason_of


async def ends(reader: asyncio.StreamReader, within_s: float = 30) -> bool:
    """Whether the server closes the connection in time."""
    try:
        async with asyncio.timeout(within_s):
            await reader.read()
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


async def http_get(server: RealServer, path: str, alpn: list[str]) -> tuple[str, bytes]:
    """Return the protocol that was agreed on and the whole response."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.wire.port, ssl=insecure_context(alpn=alpn)
    )
    agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n".encode())
    response = await reader.read()
    writer.close()
    return agreed, response


async def metric(server: RealServer, beginning: str) -> float:
    """Return the value of the first metric that begins so; 0 without one."""
    text = (await server.get("/metrics")).text
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(beginning)), 0.0)


async def test_attack_garbage_instead_of_a_hello_is_closed_logged_and_counted(
    sqlite_server: RealServer, caplog: pytest.LogCaptureFixture
) -> None:
    """One log line with address and reason, however often it comes; each is counted."""
    with caplog.at_level(logging.WARNING, logger="ct_ops_server.front_door"):
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", sqlite_server.wire.port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert await ends(reader)
            writer.close()
    lines = [record.getMessage() for record in caplog.records if "closed" in record.getMessage()]

    assert len(lines) == 1
    assert lines[0].startswith("connection from 127.0.0.1 closed: no TLS handshake")
    assert await metric(sqlite_server, "ct_ops_connections_refused_total") == 3


async def test_attack_a_handshake_that_never_ends_is_closed_at_its_limit(tmp_path: Path) -> None:
    """Silence is not waited for beyond the handshake's limit (half a second in this test)."""
    limits = tighter(handshake_timeout_s=0.5)
    async with real_server(settings_for(tmp_path / "server"), limits) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.wire.port)
        is_closed = await ends(reader)
        writer.close()

    assert is_closed


async def test_attack_a_flood_of_silent_connections_is_refused_and_agents_are_served(tmp_path: Path) -> None:
    """Beyond the limit of an address connections are closed at once; those with an identity stay."""
    limits = tighter(handshakes_per_address=10)
    async with real_server(settings_for(tmp_path / "server"), limits) as server:
        host = await server.enrolled("calm")
        async with server.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            await stream.read()
            flood = [await asyncio.open_connection("127.0.0.1", server.wire.port) for _ in range(20)]
            closed = await asyncio.gather(*(ends(reader, 3) for reader, _ in flood))
            await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id))
            reply = await next_reply(stream)
            for _, writer in flood:
                writer.close()
            await stream.done_writing()
            await stream.read()

    assert (sum(closed), reply.ok) == (10, True)


async def test_curl_and_go_offer_both_protocols_and_reach_the_http_app(sqlite_server: RealServer) -> None:
    """ALPN prefers http/1.1; the CA and the JWKS are public, everything else is not there."""
    agreed, ca = await http_get(sqlite_server, "/.well-known/ct-ops/ca.pem", ["h2", "http/1.1"])
    _, jwks = await http_get(sqlite_server, "/.well-known/jwks.json", ["http/1.1"])
    _, metrics = await http_get(sqlite_server, "/metrics", ["http/1.1"])

    assert agreed == "http/1.1"
    assert ca.endswith(sqlite_server.wire.ca_pem.encode())
    assert b'"kid"' in jwks
    assert metrics.startswith(b"HTTP/1.1 404")


async def test_openssl_sees_a_server_that_asks_for_a_certificate_and_does_not_insist(
    sqlite_server: RealServer,
) -> None:
    """The plain command line tool completes its handshake without a certificate."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{sqlite_server.wire.port}", "-alpn", "h2", "-ign_eof",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    seen = b""
    async with asyncio.timeout(10):
        while b"Verify return code" not in seen:
            seen += await process.stdout.read(4096)
    process.kill()
    await process.wait()

    assert b"Requested Signature Algorithms" in seen
    assert b"ALPN protocol: h2" in seen


async def test_the_local_app_tells_health_readiness_metrics_and_keys(sqlite_server: RealServer) -> None:
    """What monitoring and a proxy in front need."""
    healthz, readyz = await sqlite_server.get("/healthz"), await sqlite_server.get("/readyz")
    jwks, metrics = await sqlite_server.get("/.well-known/jwks.json"), await sqlite_server.get("/metrics")

    assert (healthz.status_code, healthz.text) == (200, "ok")
    assert readyz.json() == {"ready": True, "problems": {}}
    assert [sorted(key) for key in jwks.json()["keys"]] == [["alg", "e", "kid", "kty", "n", "use"]]
    assert "ct_ops_heartbeat_streams" in metrics.text


def expired_leaf(server: RealServer, host: Host) -> str:
    """Return the host's leaf again, signed by the server's own authority, but ended ten days ago."""
    secret = load_or_create_secret(server.settings.secret_file)
    key = load_key(server.settings.data_dir / "agent-ca.key", secret)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    leaf, now = x509.load_pem_x509_certificate(host.leaf_pem.encode()), dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(leaf.issuer, leaf.subject, leaf.public_key(), leaf.serial_number + 1)
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    builder = builder.not_valid_before(now - dt.timedelta(days=100)).not_valid_after(
        now - dt.timedelta(days=10)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


async def test_an_expired_leaf_opens_no_stream_and_still_proves_its_key(sqlite_server: RealServer) -> None:
    """Refused with the reason; Register on the same certificate gives everything back, without a token."""
    host = await sqlite_server.enrolled("asleep")
    host.leaf_pem = expired_leaf(sqlite_server, host)
    async with sqlite_server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stream.read()
    back = await sqlite_server.wire.register(host, "")

    assert (refusal.value.code(), reason_of(refusal.value)) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "leaf_expired",
    )
    assert (back.status, back.agent_id) == ("active", host.agent_id)


def foreign_leaf(host: Host) -> str:
    """Return a leaf that an unknown authority (the key itself) has signed."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "from elsewhere")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, host.key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
    return builder.sign(host.key, None).public_bytes(serialization.Encoding.PEM).decode()


async def test_a_leaf_of_an_unknown_authority_does_not_keep_a_host_from_register(
    sqlite_server: RealServer,
) -> None:
    """The handshake fails; on the next connection Register works and Heartbeat is UNAVAILABLE."""
    host, token = Host("moved"), await sqlite_server.token()
    host.leaf_pem = foreign_leaf(host)
    with pytest.raises(grpc.aio.AioRpcError):
        async with sqlite_server.wire.connect(host) as stub:
            await stub.Register(host.request(token), timeout=30, wait_for_ready=False)
    async with sqlite_server.wire.connect(host) as stub:
        registered = await stub.Register(host.request(token), timeout=30)
        stream = stub.Heartbeat()
        await stream.write(wire.HeartbeatRequest(agent_id=registered.jwt_token))
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stream.read()

    assert registered.status == "active"
    assert (refusal.value.code(), reason_of(refusal.value)) == (
        grpc.StatusCode.UNAVAILABLE,
        "leaf_unknown_authority",
    )


async def test_no_session_ticket_is_handed_out(sqlite_server: RealServer) -> None:
    """A ticket would let a client resume with a leaf that was looked at once, long ago."""
    context = insecure_context(alpn=["http/1.1"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    _, writer = await asyncio.open_connection("127.0.0.1", sqlite_server.wire.port, ssl=context)
    session = writer.get_extra_info("ssl_object").session
    writer.close()

    assert not session.has_ticket
