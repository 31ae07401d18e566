"""Certificates that change while the server runs: its own, an operator's, and the one agents pin."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.enrolment_token import parse_token
from ct_ops_server.authority import files
from ct_ops_server.authority.sealing import load_or_create_secret
from ct_ops_server.authority.server_certificate import load_or_create_tls
from ct_ops_server.config.load import load_settings
from ct_ops_server.config.schema import Settings
from real_server import RealServer, real_server, settings_for
from wire_client import insecure_context, next_reply


def issue(folder: Path) -> Path:
    """Issue a certificate by a CA that stays, in a folder of an operator's own; return the folder."""
    files.open_private_directory(folder)
    (folder / "server.crt").unlink(missing_ok=True)
    secret = load_or_create_secret(folder / "secret")
    load_or_create_tls(folder, secret, names=["localhost", "127.0.0.1"], now=datetime.now(UTC))
    return folder


def configured(tmp_path: Path, tls: Path) -> Settings:
    """Return settings of a server with the operator's certificate."""
    environ = {
        "INGEST_DATA_DIR": str(tmp_path / "server"),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": "0",
        "INGEST_HTTP_PORT": "0",
        "INGEST_TLS_CERT": str(tls / "server.crt"),
        "INGEST_TLS_KEY": str(tls / "server.key"),
        "INGEST_TLS_CA": str(tls / "server-ca.crt"),
        "INGEST_WEB_SERVER_CERT": str(tls / "web.crt"),
    }
    shutil.copy(tls / "server.crt", tls / "web.crt")
    return load_settings(environ, env_file=tmp_path / "no-such-file")


async def presented(port: int) -> x509.Certificate:
    """Return the certificate that a new connection is shown."""

    def look() -> bytes | None:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            insecure_context(alpn=["http/1.1"]).wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            return tls.getpeercert(binary_form=True)

    der = await asyncio.to_thread(look)
    assert der is not None
    return x509.load_der_x509_certificate(der)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds, at most ten seconds."""
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110  the server has no event to wait for
            await asyncio.sleep(0.1)


async def shows(server: RealServer, expected: x509.Certificate) -> None:
    """Wait until new connections are shown this certificate."""

    async def is_shown() -> bool:
        return await presented(server.wire.port) == expected

    await eventually(is_shown)


def certificate_in(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


async def test_our_own_certificate_is_renewed_while_the_server_runs(tmp_path: Path) -> None:
    """With less than a third of its life left; the key, and what agents pin, stay."""
    clock = [datetime.now(UTC)]
    async with real_server(settings_for(tmp_path / "server"), now=lambda: clock[0]) as server:
        first = await presented(server.wire.port)
        host = await server.enrolled("web-1")
        async with server.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(
                host.first_frame(wire.HeartbeatRequest(hello=wire.Hello(features=["renewal"])))
            )
            await next_reply(stream)
            clock[0] += timedelta(days=60)
            assert first == await presented(server.wire.port)
            clock[0] = first.not_valid_after_utc - timedelta(days=132)

            async def is_renewed() -> bool:
                return await presented(server.wire.port) != first

            await eventually(is_renewed)
            stream.cancel()
        second = await presented(server.wire.port)

    assert first.public_key() == second.public_key()
    assert second.not_valid_after_utc > first.not_valid_after_utc
    ca = certificate_in(tmp_path / "server" / "server-ca.crt")
    second.verify_directly_issued_by(ca)


async def test_an_operators_new_certificate_is_taken_up_and_open_streams_go_on(tmp_path: Path) -> None:
    """No restart, no lost stream: only new connections see it."""
    tls = issue(tmp_path / "tls")
    async with real_server(configured(tmp_path, tls)) as server:
        host = await server.enrolled("web-1")
        async with server.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            await next_reply(stream)
            issue(tls)
            await shows(server, certificate_in(tls / "server.crt"))
            await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id))
            assert (await next_reply(stream)).ok
            stream.cancel()


async def test_half_of_a_renewal_changes_nothing_until_the_other_half_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A chain whose key is not there yet, and garbage: the old certificate is served all the while."""
    tls, other = issue(tmp_path / "tls"), issue(tmp_path / "other")

    async def complained(times: int) -> None:
        async def enough() -> bool:
            return times <= sum("the old one stays" in message for message in caplog.messages)

        await eventually(enough)

    async with real_server(configured(tmp_path, tls)) as server:
        before = await presented(server.wire.port)
        (tls / "server.crt").write_text("half of a certif")
        await complained(1)
        during_garbage = await presented(server.wire.port)
        shutil.copy(other / "server-ca.crt", tls / "server-ca.crt")
        shutil.copy(other / "server.crt", tls / "server.crt")
        await complained(2)
        without_its_key = await presented(server.wire.port)
        shutil.copy(other / "server.key", tls / "server.key")
        await shows(server, certificate_in(other / "server.crt"))
        token = await server.token()

    assert before == during_garbage == without_its_key
    pin = certificate_in(other / "server-ca.crt").fingerprint(hashes.SHA256())
    assert pin == pin_of(token)


def pin_of(token: str) -> bytes:
    """Return the pin that a token carries."""
    hint = parse_token(token).hint
    assert hint is not None
    return hint.ca_sha256


async def test_the_https_certificate_is_pushed_once_to_whoever_has_pinned_another(tmp_path: Path) -> None:
    """At the next heartbeat after it has changed; an agent that has it hears nothing of it."""
    tls = issue(tmp_path / "tls")
    async with real_server(configured(tmp_path, tls)) as server:
        host = await server.enrolled("web-1")
        old = certificate_in(tls / "web.crt").fingerprint(hashes.SHA256()).hex()
        pinned = wire.HeartbeatRequest(pinned_server_cert_fingerprint=old)
        async with server.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame(pinned))
            assert "" == (await next_reply(stream)).pending_server_cert_pem
            shutil.copy(issue(tmp_path / "other") / "server.crt", tls / "web.crt")

            pushed: list[str] = []

            async def beat() -> bool:
                await stream.write(pinned)
                if pem := (await next_reply(stream)).pending_server_cert_pem:
                    pushed.append(pem)
                return bool(pushed)

            await eventually(beat)
            for _ in range(3):
                await beat()
            stream.cancel()

    assert [(tls / "web.crt").read_text()] == pushed


async def test_an_agent_that_has_pinned_nothing_is_told_too(tmp_path: Path) -> None:
    """It trusts this stream already; what it may then download from needs no other way to it."""
    tls = issue(tmp_path / "tls")
    async with real_server(configured(tmp_path, tls)) as server:
        host = await server.enrolled("web-1")
        async with server.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            reply = await next_reply(stream)
            stream.cancel()

    assert (tls / "web.crt").read_text() == reply.pending_server_cert_pem
