"""The main job over real TLS, on SQLite and on PostgreSQL, with a client that is not our agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.config.schema import Settings
from real_server import RealServer, real_server
from wire_client import Host, make_csr, next_reply, raw_public_pem, reason_of


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 5.0) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110  the server has no event to wait for
            await asyncio.sleep(0.02)


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    """Return the refusal that an RPC ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return refusal.value


async def heartbeat_once(
    server: RealServer, host: Host, values: wire.HeartbeatRequest | None = None
) -> wire.HeartbeatResponse:
    """Open a stream, send one frame, return its reply, and half-close."""
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame(values))
        reply = await next_reply(stream)
        await stream.done_writing()
        await stream.read()
        return reply


async def heartbeat_refusal(server: RealServer, host: Host | None, token: str) -> grpc.aio.AioRpcError:
    """Return the refusal of a stream's first frame."""
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(wire.HeartbeatRequest(agent_id=token))
        return await refused(stream.read())


async def test_an_auto_approved_host_enrols_and_its_heartbeat_is_stored(server: RealServer) -> None:
    """Register gives id, leaf and token; one acknowledged frame later the vitals are there."""
    host = Host("web-1")
    response = await server.wire.register(host, await server.token(tags={"role": "web"}))
    reply = await heartbeat_once(server, host)
    shown = await server.agent(host)

    assert response.status == "active"
    assert reply.ok
    assert not reply.HasField("welcome")  # an existing agent said no hello
    assert shown["vitals"]["cpu_percent"] == 12.5
    assert shown["tags"] == {"role": "web"}


async def test_a_pending_host_gets_in_after_approval_with_a_token_for_ten_minutes(server: RealServer) -> None:
    """Approval turns the next poll into a leaf and a bootstrap token that opens a stream."""
    host, token = Host("db-1"), await server.token(auto_approve=False, max_uses=1)
    waiting = await server.wire.register(host, token)
    await server.decide(host, "approve")
    approved = await server.wire.register(host, token)
    reply = await heartbeat_once(server, host)

    assert (waiting.status, waiting.jwt_token) == ("pending", "")
    assert (approved.status, approved.agent_id) == ("active", waiting.agent_id)
    assert reply.ok


async def test_a_rejected_host_is_told_so(server: RealServer) -> None:
    """A rejected key is revoked and stays quiet: no status that makes existing agents start over."""
    host, token = Host("bad-1"), await server.token(auto_approve=False)
    await server.wire.register(host, token)
    await server.decide(host, "reject")
    refusal = await refused(server.wire.register(host, token))

    assert (refusal.code(), reason_of(refusal)) == (grpc.StatusCode.FAILED_PRECONDITION, "revoked")


async def test_a_host_is_online_while_its_stream_is_open_and_offline_when_it_ends(server: RealServer) -> None:
    """Presence follows the stream at once."""
    host = await server.enrolled("web-2")
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        await stream.read()
        during = await server.agent(host)
        await stream.done_writing()
        await stream.read()

    async def offline() -> bool:
        return not (await server.agent(host))["online"]

    assert during["online"]
    await eventually(offline)


async def test_a_late_close_does_not_mark_a_reconnected_host_offline(server: RealServer) -> None:
    """The older stream ends after the younger one has begun; the host stays online."""
    host = await server.enrolled("web-3")
    async with server.wire.connect(host) as old, server.wire.connect(host) as young:
        first, second = old.Heartbeat(), young.Heartbeat()
        await first.write(host.first_frame())
        await first.read()
        await second.write(host.first_frame())
        await second.read()
        await first.done_writing()
        await first.read()
        await second.write(wire.HeartbeatRequest(agent_id=host.agent_id))
        reply = await next_reply(second)
        shown = await server.agent(host)

        assert reply.ok
        assert shown["online"]
        await second.done_writing()
        await second.read()


async def test_after_a_restart_of_the_server_a_host_comes_back_under_its_own_identity(
    settings: Settings,
) -> None:
    """Keys, agents and tokens survive; the old stream's end is not mistaken for the new one's."""
    async with real_server(settings) as before:
        host = await before.enrolled("web-4")
        await heartbeat_once(before, host)
    async with real_server(settings) as after:
        reply = await heartbeat_once(after, host)
        shown = await after.agent(host)

    assert reply.ok
    assert shown["id"] == host.agent_id


async def test_revocation_ends_the_live_stream_and_no_heartbeat_undoes_it(server: RealServer) -> None:
    """The stream hears `revoked`, and so does every later one."""
    host = await server.enrolled("web-5")
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        await stream.read()
        await server.decide(host, "revoke")
        async with asyncio.timeout(20):
            live = await refused(stream.read())
    again = await heartbeat_refusal(server, host, host.agent_token)
    shown = await server.agent(host)

    assert (live.code(), reason_of(live)) == (grpc.StatusCode.FAILED_PRECONDITION, "revoked")
    assert (again.code(), reason_of(again)) == (grpc.StatusCode.FAILED_PRECONDITION, "revoked")
    assert (shown["status"], shown["online"]) == ("revoked", False)


async def test_a_known_key_proven_by_its_leaf_needs_no_enrolment_token(server: RealServer) -> None:
    """The handshake is proof enough: same id, a full agent token."""
    host = await server.enrolled("web-6")
    first_id = host.agent_id
    response = await server.wire.register(host, "")
    reply = await heartbeat_once(server, host)

    assert (response.status, response.agent_id) == ("active", first_id)
    assert reply.ok


async def test_attack_replayed_register_of_a_known_key_gets_nothing_usable(server: RealServer) -> None:
    """Without the private key: the stored leaf, a token bound to it, and nothing changed."""
    token = await server.token()
    host = Host("web-7")
    await server.wire.register(host, token)
    thief = Host("thief", key=host.key)  # replays the recorded request on a connection without a leaf
    stolen = await server.wire.register(thief, token)
    refusal = await heartbeat_refusal(server, None, stolen.jwt_token)
    shown = await server.agent(host)

    assert stolen.client_cert_pem == host.leaf_pem
    assert refusal.details() == "client certificate required for this RPC"
    assert shown["hostname"] == "web-7"


async def test_attack_another_agents_token_opens_no_stream(server: RealServer) -> None:
    """The token's subject must be the leaf's agent."""
    mine, other = await server.enrolled("web-8"), await server.enrolled("web-9")
    refusal = await heartbeat_refusal(server, mine, other.agent_token)

    assert refusal.code() is grpc.StatusCode.UNAUTHENTICATED
    assert reason_of(refusal) == "agent_token_of_another_agent"


async def test_a_heartbeat_without_certificate_is_refused_as_existing_servers_do(server: RealServer) -> None:
    """Same status, same words."""
    refusal = await heartbeat_refusal(server, None, "whatever")

    assert refusal.code() is grpc.StatusCode.UNAUTHENTICATED
    assert refusal.details() == "client certificate required for this RPC"


async def test_each_bad_enrolment_token_is_named(server: RealServer) -> None:
    """Missing, unknown, truncated, expired and used up are five different answers."""
    spent, expired = await server.token(max_uses=1), await server.token(expires_in_s=0.05)
    await server.wire.register(Host("first"), spent)
    await asyncio.sleep(0.1)
    bad = {"": "token_missing", "tok_nobody": "token_unknown", spent[:30]: "token_unknown"}
    bad |= {spent: "token_exhausted", expired: "token_expired", "x" * 2_000: "token_unknown"}
    reasons = {token: reason_of(await refused(server.wire.register(Host("late"), token))) for token in bad}

    assert reasons == bad


async def test_a_csr_of_another_key_or_with_a_broken_signature_is_refused(server: RealServer) -> None:
    """The key in the CSR must be the key that is registered, and must have signed it."""
    host, token = Host("csr"), await server.token()
    foreign, broken = host.request(token), host.request(token)
    foreign.csr_der = make_csr(Host("other").key)
    broken.csr_der = broken.csr_der[:-1] + bytes([broken.csr_der[-1] ^ 1])
    async with server.wire.connect() as stub:
        reasons = [reason_of(await refused(stub.Register(bad, timeout=20))) for bad in (foreign, broken)]

    assert reasons == ["key_mismatch", "csr_signature"]


async def test_a_second_live_host_with_the_same_name_and_address_is_refused(server: RealServer) -> None:
    """A new key does not take over a host that is online; once it is offline it waits for an operator."""
    host = await server.enrolled("twin")
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        await stream.read()
        refusal = await refused(server.wire.register(Host("twin"), await server.token()))
        await stream.done_writing()
        await stream.read()

    async def offline() -> bool:
        return not (await server.agent(host))["online"]

    await eventually(offline)
    later = await server.wire.register(Host("twin"), await server.token())

    assert refusal.code() is grpc.StatusCode.ALREADY_EXISTS
    assert later.status == "pending"


async def test_nul_and_absurd_values_are_cleaned_and_disturb_nobody(server: RealServer) -> None:
    """One agent's nonsense is stored as what can be stored; its neighbour's frame in the same group too."""
    odd, neighbour = await server.enrolled("odd"), await server.enrolled("neighbour")
    nonsense = wire.HeartbeatRequest(
        memory_percent=float("nan"),
        disk_percent=float("inf"),
        uptime_seconds=2**63 - 1,
        timestamp_unix=-(2**63),
        agent_version="1\x00\x1b[2J",
        disks=[wire.DiskInfo(mount_point="/\x00", total_bytes=2**64 - 1)],
    )
    replies = await asyncio.gather(heartbeat_once(server, odd, nonsense), heartbeat_once(server, neighbour))
    shown = await server.agent(odd)

    assert [reply.ok for reply in replies] == [True, True]
    assert shown["vitals"]["agent_version"] == "1[2J"
    assert shown["disks"][0]["total_bytes"] == 2**63 - 1


async def test_an_oversized_message_gets_a_sentence(server: RealServer) -> None:
    """In the lobby 64 KiB, for agents 1 MiB; beyond it RESOURCE_EXHAUSTED with the reason."""
    big = Host("big").request(await server.token())
    big.agent_info.version = "x" * 70_000
    async with server.wire.connect() as stub:
        lobby = await refused(stub.Register(big, timeout=20))
    host = await server.enrolled("big-2")
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame(wire.HeartbeatRequest(agent_version="x" * 1_100_000)))
        agents = await refused(stream.read())

    assert [reason_of(lobby), reason_of(agents)] == ["message_too_large"] * 2


async def test_a_leaf_is_renewed_for_its_own_key_only(server: RealServer) -> None:
    """RenewCertificate keeps the key; another key's CSR is refused."""
    host = await server.enrolled("renewing")
    async with server.wire.connect(host) as stub:
        request = wire.RenewCertificateRequest(agent_id=host.agent_id, csr_der=make_csr(host.key))
        renewed = await stub.RenewCertificate(request, timeout=20)
        other = wire.RenewCertificateRequest(csr_der=make_csr(Host("x").key))
        refusal = await refused(stub.RenewCertificate(other, timeout=20))
    host.leaf_pem = renewed.client_cert_pem

    assert (await heartbeat_once(server, host)).ok
    assert reason_of(refusal) == "renewal_key"


async def test_every_form_of_one_key_is_one_agent(server: RealServer) -> None:
    """Re-wrapped armour does not make a second agent."""
    host, token = Host("wrapped"), await server.token()
    first = await server.wire.register(host, token)
    again = host.request(token)
    again.public_key = raw_public_pem(host.key).replace("\n", "\r\n") + "\n\n"
    async with server.wire.connect() as stub:
        second = await stub.Register(again, timeout=20)

    assert second.agent_id == first.agent_id
