"""Getting back in by the key alone: a signed challenge over real TLS, and every way to abuse it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.key_proof import signed_text
from ct_ops_server.config.schema import Settings
from real_server import RealServer, real_server
from wire_client import Host, next_reply, raw_public_pem, reason_of


def der_of(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return refusal.value


async def prove(
    server: RealServer,
    host: Host,
    *,
    signer: Host | None = None,
    for_server: str = "",
    for_csr: bytes = b"",
) -> wire.RegisterRequest:
    """Return a Register without a token, with a signed challenge."""
    request = host.request("")
    async with server.wire.connect() as stub:
        challenge = await stub.RegisterChallenge(
            wire.RegisterChallengeRequest(public_key=raw_public_pem(host.key))
        )
    shown = der_of(for_server or (server.settings.data_dir / "server.crt").read_text())
    assert hashlib.sha256(shown).digest() == challenge.server_certificate_sha256 or for_server
    text = signed_text(
        nonce=challenge.nonce, server_certificate_der=shown, csr_der=for_csr or request.csr_der
    )
    request.proof.nonce = challenge.nonce
    request.proof.signature = (signer or host).key.sign(text)
    return request


async def register(server: RealServer, request: wire.RegisterRequest) -> wire.RegisterResponse:
    async with server.wire.connect() as stub:
        return await stub.Register(request, timeout=20)


async def test_a_key_alone_gets_an_agent_back_in(server: RealServer) -> None:
    """No enrolment token, no leaf, no agent token: a fresh signature is enough for all of them."""
    host = await server.enrolled("web-1")
    back = await register(server, await prove(server, Host("web-1", host.key)))
    restored = Host("web-1", host.key, back.client_cert_pem, back.jwt_token, back.agent_id)
    async with server.wire.connect(restored) as stub:
        stream = stub.Heartbeat()
        await stream.write(restored.first_frame())
        reply = await next_reply(stream)

    assert ("active", host.agent_id) == (back.status, back.agent_id)
    assert reply.ok
    assert abs(back.server_time_ms / 1000 - datetime.now(UTC).timestamp()) < 60


async def test_any_time_offline_is_no_reason_to_stay_out(settings: Settings) -> None:
    """After 200 days leaf and token have long expired; the key has not."""
    clock = [datetime.now(UTC)]
    async with real_server(settings, now=lambda: clock[0]) as server:
        host = await server.enrolled("web-1")
        clock[0] += timedelta(days=200)
        by_challenge = await register(server, await prove(server, host))
        by_expired_leaf = await server.wire.register(Host("web-1", host.key, host.leaf_pem), "")

    assert ("active", host.agent_id) == (by_challenge.status, by_challenge.agent_id)
    assert ("active", host.agent_id) == (by_expired_leaf.status, by_expired_leaf.agent_id)


async def test_attack_a_replayed_proof_is_refused(server: RealServer) -> None:
    """A nonce is good once; whoever saw the Register cannot repeat it."""
    host = await server.enrolled("web-1")
    request = await prove(server, host)
    await register(server, request)
    refusal = await refused(register(server, request))

    assert (grpc.StatusCode.UNAVAILABLE, "proof_stale") == (refusal.code(), reason_of(refusal))


@pytest.mark.parametrize("signed_for", ["agent-ca.crt", "server-ca.crt"])
async def test_attack_a_relayed_register_is_refused(server: RealServer, signed_for: str) -> None:
    """A rogue server hands our nonce to an agent, which signs for the certificate that it sees there.

    Nor is a signature for our authority one for us: that may have signed other servers too.
    """
    host = await server.enrolled("web-1")
    rogue = (server.settings.data_dir / signed_for).read_text()
    refusal = await refused(register(server, await prove(server, host, for_server=rogue)))

    assert (grpc.StatusCode.INVALID_ARGUMENT, "proof_invalid") == (refusal.code(), reason_of(refusal))


async def test_attack_a_proof_by_another_key_is_refused(server: RealServer) -> None:
    """Not even beside a good enrolment token is a wrong proof merely overlooked."""
    host = await server.enrolled("web-1")
    request = await prove(server, host, signer=Host("thief"))
    request.org_token = await server.token()
    refusal = await refused(register(server, request))

    assert "proof_invalid" == reason_of(refusal)


async def test_attack_a_proof_for_another_csr_is_refused(server: RealServer) -> None:
    """The signature covers the CSR beside it: nobody can put his own in."""
    host = await server.enrolled("web-1")
    refusal = await refused(register(server, await prove(server, host, for_csr=b"another request")))

    assert "proof_invalid" == reason_of(refusal)


async def test_attack_a_nonce_of_another_key_is_refused(server: RealServer) -> None:
    """A nonce belongs to the key it was asked for."""
    host, thief = await server.enrolled("web-1"), Host("thief")
    request, theirs = await prove(server, host), await prove(server, thief)
    request.proof.nonce = theirs.proof.nonce
    refusal = await refused(register(server, request))

    assert "proof_stale" == reason_of(refusal)


async def test_a_proof_of_an_unknown_key_still_needs_a_token(server: RealServer) -> None:
    """A key that nobody knows is no invitation, however well proven."""
    refusal = await refused(register(server, await prove(server, Host("new-1"))))

    assert (grpc.StatusCode.INVALID_ARGUMENT, "token_missing") == (refusal.code(), reason_of(refusal))


async def test_a_challenge_for_no_key_is_refused(server: RealServer) -> None:
    """With the reason that Register would give."""
    async with server.wire.connect() as stub:
        refusal = await refused(stub.RegisterChallenge(wire.RegisterChallengeRequest(public_key="nonsense")))

    assert grpc.StatusCode.INVALID_ARGUMENT == refusal.code()
    assert "key_malformed" == reason_of(refusal)


async def test_a_revoked_key_is_told_so_however_it_proves_itself(server: RealServer) -> None:
    """A proof opens nothing that an operator has closed."""
    host = await server.enrolled("web-1")
    await server.decide(host, "revoke")
    by_challenge = await refused(register(server, await prove(server, host)))
    by_leaf = await refused(server.wire.register(host, ""))

    assert ["revoked", "revoked"] == [reason_of(by_challenge), reason_of(by_leaf)]


async def test_every_refusal_carries_the_servers_clock(server: RealServer) -> None:
    """So that an agent whose own clock is wrong finds out, also when it is let in nowhere."""
    refusal = await refused(register(server, Host("new-1").request("tok_wrong")))
    metadata = dict(refusal.trailing_metadata() or ())

    assert abs(int(metadata["ct-ops-server-time-ms"]) / 1000 - datetime.now(UTC).timestamp()) < 60


async def test_an_agent_that_the_store_has_forgotten_comes_back_pending_under_its_id(
    settings: Settings,
) -> None:
    """A backup from before the enrolment: the leaf is of our authority, an operator says the rest."""
    async with real_server(settings) as server:
        host = await server.enrolled("web-1")
        await server.ask("POST", f"/v1/agents/{host.agent_id}/revoke", {"actor": "test"})
        kept = Host("web-2")
        await server.wire.register(kept, await server.token())
        await forget(settings, kept)
        back = await server.wire.register(Host("web-2", kept.key, kept.leaf_pem), "")
        await server.decide(kept, "approve")
        active = await server.wire.register(Host("web-2", kept.key, kept.leaf_pem), "")
        shown = await server.agent(kept)

    assert ("pending", kept.agent_id) == (back.status, back.agent_id)
    assert ("active", kept.agent_id) == (active.status, active.agent_id)
    assert "enrolled after the backup" == shown["evidence"]


async def forget(settings: Settings, host: Host) -> None:
    """Take a host out of the database, as a restored backup does."""
    import sqlalchemy as sa  # noqa: PLC0415  for this one act of violence

    from ct_ops_server.store.database import Database  # noqa: PLC0415

    database = await Database.open(settings.database_url)
    try:
        async with database.writing() as connection:
            await connection.execute(sa.text("DELETE FROM agents WHERE id = :id"), {"id": host.agent_id})
    finally:
        await database.dispose()


async def test_two_registers_at_once_with_one_proof_succeed_once(server: RealServer) -> None:
    """The nonce is used up by whoever comes first."""
    host = await server.enrolled("web-1")
    request = await prove(server, host)
    results = await asyncio.gather(*(register(server, request) for _ in range(5)), return_exceptions=True)
    refusals = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]

    assert 4 == len(refusals)
    assert {"proof_stale"} == {reason_of(refusal) for refusal in refusals}
