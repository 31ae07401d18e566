"""Enrolment tokens over real TLS, on both databases: whom they admit, whom not, and what is seen of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from real_server import RealServer
from wire_client import Host, make_csr, reason_of


async def reason(call: Awaitable[object]) -> str:
    """Return why a call is refused, "" when it is not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return ""


async def token_of(server: RealServer) -> dict[str, Any]:
    """Return what operators see of the one token there is."""
    (listed,) = await server.ask("GET", "/v1/tokens")
    shown: dict[str, Any] = await server.ask("GET", f"/v1/tokens/{listed['id']}")
    return shown


async def recorded(server: RealServer, count: int) -> list[dict[str, Any]]:
    """Return the refusals once so many are recorded: that happens beside the answer."""
    async with asyncio.timeout(10):
        while True:
            found: list[dict[str, Any]] = await server.ask("GET", "/v1/refusals?limit=1000")
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_two_hundred_hosts_at_once_on_a_token_for_ten_are_ten_agents(server: RealServer) -> None:
    """However they race; the others hear why, and are seen by the operator."""
    token = await server.token(max_uses=10)
    reasons = Counter(
        await asyncio.gather(
            *(reason(server.wire.register(Host(f"race-{number}"), token)) for number in range(200))
        )
    )
    shown = await token_of(server)

    assert {"": 10, "token_exhausted": 190} == reasons
    assert (10, "exhausted", 10) == (shown["uses"], shown["state"], len(shown["admitted"]))
    assert 10 == len(await server.ask("GET", "/v1/agents"))
    assert 190 == len(await recorded(server, 190))


async def test_a_retry_after_a_lost_reply_spends_no_second_use(server: RealServer) -> None:
    """The host asks again, on a new connection, with the same key and the token that is used up by now."""
    host, token = Host("web-1"), await server.token(max_uses=1)
    ids = {(await server.wire.register(Host("web-1", host.key), token)).agent_id for _ in range(3)}

    assert 1 == len(ids)
    assert 1 == (await token_of(server))["uses"]


async def test_a_register_that_is_malformed_spends_no_use(server: RealServer) -> None:
    """Whatever is wrong with it: the host that does it right is admitted by the same single use."""
    host, token = Host("web-1"), await server.token(max_uses=1)
    requests = [host.request(token) for _ in range(4)]
    requests[0].public_key = "nonsense"
    requests[1].csr_der = b"nonsense"
    requests[2].csr_der = make_csr(Host("other").key)
    requests[3].proof.CopyFrom(wire.KeyProof(nonce=b"n" * 32, signature=b"s" * 64))
    async with server.wire.connect() as stub:
        reasons = [await reason(stub.Register(request, timeout=20)) for request in requests]
    before = (await token_of(server))["uses"]

    assert ["key_malformed", "csr_malformed", "key_mismatch", "proof_stale"] == reasons
    assert 0 == before
    assert "active" == (await server.wire.register(host, token)).status


async def test_attack_a_stolen_token_admits_nobody_outside_its_networks_and_hostnames_and_is_seen(
    server: RealServer,
) -> None:
    """The operator learns who tried, from where, how often, with which token, and what to do."""
    elsewhere = await server.token(networks=["203.0.113.0/24"])
    others = await server.token(hostname_pattern="db-*")
    thief = Host("thief")
    answers = [await reason(server.wire.register(thief, token)) for token in (elsewhere, elsewhere, others)]
    found = {refusal["reason"]: refusal for refusal in await recorded(server, 2)}

    assert ["token_network", "token_network", "token_hostname"] == answers
    assert ("thief", "127.0.0.1", 2) == tuple(
        found["token_network"][name] for name in ("hostname", "observed_address", "count")
    )
    assert found["token_network"]["token_id"] != found["token_hostname"]["token_id"]
    assert "--network" in found["token_network"]["what_to_do"]
    assert [] == await server.ask("GET", "/v1/agents")


async def test_attack_a_stolen_token_is_worth_nothing_once_it_is_revoked(server: RealServer) -> None:
    """Whom it had admitted stays, and needs it no more."""
    token = await server.token()
    honest = Host("web-1")
    await server.wire.register(honest, token)
    shown = await token_of(server)
    await server.ask("POST", f"/v1/tokens/{shown['id']}/revoke", {"actor": "test", "reason": "stolen"})

    assert "token_revoked" == await reason(server.wire.register(Host("thief"), token))
    assert "active" == (await server.wire.register(honest, token)).status
    assert ["web-1"] == [agent["hostname"] for agent in (await token_of(server))["admitted"]]


async def test_attack_a_stolen_token_cannot_take_the_place_of_a_host_that_is_away(server: RealServer) -> None:
    """Not even one that approves by itself: the newcomer waits for an operator, with the evidence."""
    token = await server.token()
    absent, thief = Host("web-1"), Host("web-1")
    await server.wire.register(absent, token)
    waiting = await server.wire.register(thief, token)
    back = await server.wire.register(absent, token)

    assert ("pending", "", "") == (waiting.status, waiting.jwt_token, waiting.client_cert_pem)
    assert absent.agent_id in (await server.agent(thief))["evidence"]
    assert ("active", absent.agent_id) == (back.status, back.agent_id)


async def test_a_host_with_a_token_of_an_existing_server_is_admitted_by_its_hash(server: RealServer) -> None:
    """It shows the token that it always had; nobody here has ever seen that."""
    opaque = "cm4w0ck3r0000v8l5zq7hd2xp"
    before = await reason(server.wire.register(Host("old-1"), opaque))
    digest = hashlib.sha256(opaque.encode()).hexdigest()
    body = {"actor": "test", "label": "old", "auto_approve": True, "sha256": digest, "uses": 2, "max_uses": 3}
    await server.ask("POST", "/v1/imported-tokens", body)
    after = [await reason(server.wire.register(Host(name), opaque)) for name in ("old-2", "old-3")]

    assert "token_unknown" == before
    assert ["", "token_exhausted"] == after


@pytest.mark.parametrize("hostname", ["evil\x1b]0;owned\x07\x1b[2J", "evil\u202egnp.exe"])
async def test_attack_a_terminal_escape_in_the_hostname_of_somebody_refused_never_reaches_a_terminal(
    sqlite_server: RealServer, hostname: str
) -> None:
    """A list of refusals is read by operators; everybody can get onto it."""
    assert "token_unknown" == await reason(sqlite_server.wire.register(Host(hostname), "tok_wrong"))
    (found,) = await recorded(sqlite_server, 1)

    assert found["hostname"].startswith("evil")
    assert found["hostname"].isprintable()
