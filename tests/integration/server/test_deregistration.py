"""A host that leaves: by its key alone, and every way to make another host leave."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.key_proof import deregistration_text, signed_text
from ct_ops_server.config.schema import Settings
from real_server import RealServer, operator, real_server, two_servers
from wire_client import Host, next_reply, raw_public_pem, reason_of


def der_of(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return refusal.value.code(), reason_of(refusal.value)


async def request_of(
    server: RealServer,
    host: Host,
    *,
    agent_id: str = "",
    signer: Host | None = None,
    certificate: str = "server.crt",
    presenting: Host | None = None,
) -> wire.DeregisterRequest:
    """Return a request for a host to leave, signed by its key unless said otherwise."""
    async with server.wire.connect(presenting) as stub:
        challenge = await stub.RegisterChallenge(
            wire.RegisterChallengeRequest(public_key=raw_public_pem(host.key))
        )
    shown = der_of((server.settings.data_dir / certificate).read_text())
    agent_id = agent_id or host.agent_id
    text = deregistration_text(nonce=challenge.nonce, server_certificate_der=shown, agent_id=agent_id)
    proof = wire.KeyProof(nonce=challenge.nonce, signature=(signer or host).key.sign(text))
    return wire.DeregisterRequest(public_key=raw_public_pem(host.key), agent_id=agent_id, proof=proof)


async def leave(server: RealServer, request: wire.DeregisterRequest) -> str:
    async with server.wire.connect() as stub:
        return (await stub.Deregister(request, timeout=20)).status


async def history(server: RealServer, host: Host) -> list[dict[str, Any]]:
    return list((await server.agent(host))["history"])


async def test_a_host_that_leaves_is_revoked_and_nothing_of_it_is_erased(server: RealServer) -> None:
    """Its streams end with the reason, it is not admitted again, and the history says who did it."""
    host = await server.enrolled("web-1")
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        await next_reply(stream)
        status = await leave(server, await request_of(server, host))
        ended = await refused(stream.read())
    again = await refused(server.wire.register(host, await server.token()))
    shown = await server.agent(host)

    assert "deregistered" == status
    assert (grpc.StatusCode.FAILED_PRECONDITION, "revoked") == ended == again
    assert ("revoked", "web-1", 12.5) == (shown["status"], shown["hostname"], shown["vitals"]["cpu_percent"])
    last = (await history(server, host))[-1]
    assert ("revoked", "the host itself") == (last["status"], last["actor"])
    assert "deregistered" in last["reason"]


async def test_a_host_that_was_away_for_long_can_still_leave(settings: Settings) -> None:
    """Leaf and agent token have expired; the key has not."""
    clock = [datetime.now(UTC)]
    async with real_server(settings, now=lambda: clock[0]) as server:
        host = await server.enrolled("web-1")
        clock[0] += timedelta(days=250)
        request = await request_of(server, host, presenting=host)
        assert "deregistered" == await leave(server, request)


async def test_a_host_that_waits_for_approval_can_leave(sqlite_server: RealServer) -> None:
    """Nobody need decide about it any more."""
    host = Host("web-1")
    await sqlite_server.wire.register(host, await sqlite_server.token(auto_approve=False))

    assert "deregistered" == await leave(sqlite_server, await request_of(sqlite_server, host))
    assert "revoked" == (await sqlite_server.agent(host))["status"]


async def test_a_host_hears_that_there_was_nothing_to_do(sqlite_server: RealServer) -> None:
    """Revoked before, deleted, or never known here: none of these is a failure."""
    revoked, deleted = await sqlite_server.enrolled("web-1"), await sqlite_server.enrolled("web-2")
    stranger = Host("web-3", agent_id="0" * 24)
    await sqlite_server.decide(revoked, "revoke")
    await sqlite_server.ask("DELETE", f"/v1/agents/{deleted.agent_id}", {"actor": "test", "reason": ""})

    for host, said in ((revoked, "revoked"), (deleted, "unknown"), (stranger, "unknown")):
        assert said == await leave(sqlite_server, await request_of(sqlite_server, host))
    assert operator("test") == (await history(sqlite_server, revoked))[-1]["actor"]


async def test_it_ends_the_streams_on_other_servers_of_the_installation(
    tmp_path: Path, postgres_url: str
) -> None:
    """Said to one of two servers on one database, while a copy of the agent is connected to the other."""
    async with two_servers(tmp_path, postgres_url) as (first, second):
        host = await first.enrolled("web-1")
        async with second.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            await next_reply(stream)
            await leave(first, await request_of(first, host))
            ended = await refused(stream.read())

    assert (grpc.StatusCode.FAILED_PRECONDITION, "revoked") == ended


# ---- attacks -------------------------------------------------------------------------------------


async def still_there(server: RealServer, host: Host) -> bool:
    return bool((await server.agent(host))["status"] == "active")


async def test_attack_a_stolen_leaf_and_agent_token_do_not_deregister(sqlite_server: RealServer) -> None:
    """Whoever has everything but the key cannot sign; to show the rest is of no use."""
    host, thief = await sqlite_server.enrolled("web-1"), Host("thief")
    request = await request_of(sqlite_server, host, signer=thief)

    assert "proof_invalid" == (await refused(leave(sqlite_server, request)))[1]
    request.ClearField("proof")
    assert "proof_stale" == (await refused(leave(sqlite_server, request)))[1]
    assert await still_there(sqlite_server, host)


async def test_attack_another_agents_id_does_not_deregister_it(sqlite_server: RealServer) -> None:
    """A key speaks for its own agent only."""
    victim, thief = await sqlite_server.enrolled("web-1"), await sqlite_server.enrolled("web-2")
    request = await request_of(sqlite_server, thief, agent_id=victim.agent_id)

    assert "not_your_agent" == (await refused(leave(sqlite_server, request)))[1]
    assert await still_there(sqlite_server, victim)
    assert await still_there(sqlite_server, thief)


async def test_attack_a_replayed_deregister_is_refused(sqlite_server: RealServer) -> None:
    """An agent that was deleted and enrolled again by the same key cannot be made to leave by an old message."""
    host = await sqlite_server.enrolled("web-1")
    request = await request_of(sqlite_server, host, agent_id="another")
    await refused(leave(sqlite_server, request))

    assert "proof_stale" == (await refused(leave(sqlite_server, request)))[1]
    assert await still_there(sqlite_server, host)


async def test_attack_a_relayed_deregister_is_refused(sqlite_server: RealServer) -> None:
    """An agent that says goodbye to a rogue server signs for the certificate that it sees there."""
    host = await sqlite_server.enrolled("web-1")
    request = await request_of(sqlite_server, host, certificate="server-ca.crt")

    assert "proof_invalid" == (await refused(leave(sqlite_server, request)))[1]
    assert await still_there(sqlite_server, host)


async def test_attack_a_proof_for_register_does_not_deregister(sqlite_server: RealServer) -> None:
    """Each purpose has a text of its own."""
    host = await sqlite_server.enrolled("web-1")
    request = await request_of(sqlite_server, host)
    shown = der_of((sqlite_server.settings.data_dir / "server.crt").read_text())
    text = signed_text(
        nonce=request.proof.nonce, server_certificate_der=shown, csr_der=host.agent_id.encode()
    )
    request.proof.signature = host.key.sign(text)

    assert "proof_invalid" == (await refused(leave(sqlite_server, request)))[1]
    assert await still_there(sqlite_server, host)


async def test_nonsense_for_a_key_is_refused_in_a_sentence(sqlite_server: RealServer) -> None:
    """And changes nothing."""
    code, reason = await refused(leave(sqlite_server, wire.DeregisterRequest(public_key="nonsense")))

    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert reason
