"""A whole rotation of the agent CA and of the token key, with real TLS, on one server and on two."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ct_ops_proto.agent.v1 import ingest_pb2 as ingest
from ct_ops_server.authority.sealing import load_key, load_or_create_secret
from ct_ops_server.config.schema import Settings
from databases import drop_database, migrated_database
from real_server import RealServer, real_server, settings_for, two_servers
from wire_client import HeartbeatStream, Host, Wire, make_csr, next_reply, reason_of

_PATIENCE_S = 30
RETIRED = (grpc.StatusCode.UNAUTHENTICATED, "authority_retired")


async def refusal_of(stream: HeartbeatStream) -> tuple[grpc.StatusCode, str]:
    """Return how a stream is refused, or ended."""
    async with asyncio.timeout(_PATIENCE_S):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stream.read()
    return refusal.value.code(), reason_of(refusal.value)


async def refused(wire: Wire, host: Host) -> tuple[grpc.StatusCode, str]:
    async with wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        return await refusal_of(stream)


async def step(server: RealServer, kind: str, name: str, *, force: bool = False, **more: Any) -> Any:
    """Take a step as the command does: when every worker has taken up the one before."""
    back = "?back=true" if name in {"discard", "go-back"} else ""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            plan = await server.ask("GET", f"/v1/authority/{kind}/next{back}")
            if not any("taken up" in each for each in said(plan)):
                break
            await asyncio.sleep(0.05)
    body = {"actor": "test", "version": plan["version"], "force": force, **more}
    return await server.ask("POST", f"/v1/authority/{kind}/{name}", body)


async def until_everywhere(server: RealServer) -> None:
    """Wait until every worker acts by the latest step."""
    async with asyncio.timeout(_PATIENCE_S):
        while (await server.ask("GET", "/v1/authority"))["workers_behind"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def states(server: RealServer, what: str = "authorities") -> list[str]:
    return [each["state"] for each in (await server.ask("GET", "/v1/authority"))[what]]


async def renewed(wire: Wire, host: Host) -> None:
    """Renew as existing agents do."""
    async with wire.connect(host) as stub:
        response = await stub.RenewCertificate(ingest.RenewCertificateRequest(csr_der=make_csr(host.key)))
    host.leaf_pem = response.client_cert_pem


def issuer_of(host: Host) -> str:
    return x509.load_pem_x509_certificate(host.leaf_pem.encode()).issuer.rfc4514_string()


@pytest.fixture(params=["sqlite", "two nodes on postgresql"])
async def servers(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[RealServer, RealServer]]:
    """A server twice, or two nodes of one database: steps are taken on the first, agents come to the second."""
    if request.param == "sqlite":
        async with real_server(settings_for(tmp_path / "one")) as server:
            yield server, server
        return
    url = await migrated_database(request.getfixturevalue("postgres"))
    async with two_servers(tmp_path, url) as both:
        yield both
    await drop_database(url)


async def test_an_agent_ca_is_rotated_without_downtime(servers: tuple[RealServer, RealServer]) -> None:
    """Leaves of both are good through the overlap, on every node; then the old one proves its key and nothing more."""
    one, two = servers
    old, stays = await one.enrolled("existing"), await one.enrolled("renews")
    first = issuer_of(old)

    await step(one, "ca", "prepare")
    await two.wire.beat(old)
    assert ["active", "prepared"] == await states(two)
    assert first == issuer_of(await two.enrolled("while-prepared"))

    async with two.wire.connect(stays) as stub:
        stream = stub.Heartbeat()
        await stream.write(stays.first_frame())
        await next_reply(stream)
        await step(one, "ca", "activate")
        await until_everywhere(one)
        await stream.write(stays.first_frame())
        await next_reply(stream)  # the open stream lives through it
        stream.cancel()
    await two.wire.beat(old)
    await renewed(two.wire, stays)
    assert issuer_of(stays) != first
    assert issuer_of(stays) == issuer_of(await two.enrolled("newcomer"))
    for server in servers:
        await server.wire.beat(stays)

    refusal = await step(one, "ca", "retire")
    assert "2 active agents hold a good leaf of it: existing, while-prepared" in refusal["error"]["message"]
    async with two.wire.connect(old) as stub:
        stream = stub.Heartbeat()
        await stream.write(old.first_frame())
        await next_reply(stream)
        await step(one, "ca", "retire", force=True)
        assert RETIRED == await refusal_of(stream)
    await until_everywhere(one)
    for server in servers:
        assert RETIRED == await refused(server.wire, old)
        assert not (server.settings.data_dir / "agent-ca.key").exists()

    back = await two.wire.register(old, "")
    assert ("active", issuer_of(stays)) == (back.status, issuer_of(old))
    await one.wire.beat(old)
    assert ["retired", "active"] == await states(one)


async def test_a_token_key_is_rotated_and_its_tokens_live_on(servers: tuple[RealServer, RealServer]) -> None:
    """The next key is in the JWKS before it signs, the one before as long as its tokens may be good."""
    one, two = servers
    host = await one.enrolled("web-1")
    before = kid_of(host.agent_token)

    await step(one, "jwt", "prepare")
    await until_everywhere(one)
    (active, prepared) = await kids(two)
    refusal = await step(one, "jwt", "activate")
    assert "JWKS" in refusal["error"]["message"]
    await step(one, "jwt", "activate", force=True)
    await until_everywhere(one)
    newcomer = await two.enrolled("web-2")
    await two.wire.beat(host)  # with a token of the key before
    assert (before, prepared) == (active, kid_of(newcomer.agent_token))
    assert [prepared, active] == await kids(one)

    await step(one, "jwt", "retire", force=True)
    await until_everywhere(one)
    await two.wire.beat(host)  # beside its own leaf (rule 11)
    await one.wire.beat(newcomer)
    assert [prepared, active] == await kids(two)
    assert not (one.settings.data_dir / "jwt_key.pem").exists()


async def test_a_rotation_goes_back_until_it_is_done(sqlite_server: RealServer) -> None:
    """What the newer one signed meanwhile stays good."""
    server = sqlite_server
    first = issuer_of(await server.enrolled("web-1"))
    await step(server, "ca", "prepare")
    await step(server, "ca", "activate")
    await until_everywhere(server)
    meanwhile = await server.enrolled("web-2")
    await step(server, "ca", "go-back")
    await until_everywhere(server)

    assert ["active", "outgoing"] == await states(server)
    assert first == issuer_of(await server.enrolled("web-3"))
    await server.wire.beat(meanwhile)


async def test_a_rotation_survives_restarts_between_its_steps(settings: Settings) -> None:
    """Each start finds the state that the database says, and the files erased that must be."""
    async with real_server(settings) as server:
        host = await server.enrolled("web-1")
        await step(server, "ca", "prepare")
    async with real_server(settings) as server:
        await step(server, "ca", "activate")
    async with real_server(settings) as server:
        await server.wire.beat(host)
        newcomer = await server.enrolled("web-2")
        await step(server, "ca", "retire", force=True)
    for _ in range(2):
        async with real_server(settings) as server:
            await server.wire.beat(newcomer)
            assert RETIRED == await refused(server.wire, host)
            assert ["retired", "active"] == await states(server)
    assert not list(settings.data_dir.glob("agent-ca.*"))


async def test_two_operators_take_one_step(sqlite_server: RealServer) -> None:
    """Who planned before the other one acted is told to look again."""
    plan = await sqlite_server.ask("GET", "/v1/authority/ca/next")
    body = {"actor": "test", "version": plan["version"]}
    answers = await asyncio.gather(
        *(sqlite_server.ask("POST", "/v1/authority/ca/prepare", body) for _ in range(2))
    )

    assert 1 == sum("error" in each for each in answers)
    assert ["active", "prepared"] == await states(sqlite_server)


async def test_a_recognised_authority_proves_keys_and_nothing_more(
    sqlite_server: RealServer, tmp_path: Path
) -> None:
    """An existing agent with a leaf of another server registers, with a token, on its first connection."""
    server = sqlite_server
    elsewhere = tmp_path / "elsewhere"
    async with real_server(settings_for(elsewhere)) as other:
        host = await other.enrolled("moved")
    pem = (elsewhere / "agent-ca.crt").read_text()
    done = await server.ask("POST", "/v1/recognised-authorities", {"actor": "test", "pem": pem})
    await until_everywhere(server)

    assert 1 == len(done["recognised"])
    assert (grpc.StatusCode.UNAUTHENTICATED, "foreign_installation") == await refused(server.wire, host)
    assert "active" == (await server.wire.register(host, await server.token())).status
    await server.wire.beat(host)


async def test_a_node_with_another_secret_goes_on_and_stops_the_rotation(
    tmp_path: Path, postgres_url: str
) -> None:
    """It cannot open the next key, so it is named, and nothing is activated over its head."""
    async with two_servers(tmp_path, postgres_url) as (one, two):
        host = await two.enrolled("web-1")
        async with real_server(stranger(tmp_path, postgres_url)) as third:
            await step(one, "ca", "prepare")
            async with asyncio.timeout(_PATIENCE_S):
                while await workers_behind(one) != 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await third.wire.beat(host)


async def workers_behind(server: RealServer) -> int:
    """Return how many workers an activation would wait for."""
    plan = await server.ask("GET", "/v1/authority/ca/next")
    found = re.search(r"(\d+) workers? ha(s|ve) not taken up", " ".join(said(plan)))
    return int(found[1]) if found else 0


def said(plan: Any) -> list[str]:
    """Return what speaks against a step."""
    return [each["message"] for each in plan["objections"]]


def stranger(tmp_path: Path, url: str) -> Settings:
    """Return settings of a node that has the first node's keys, unsealed, and another secret."""
    settings = settings_for(tmp_path / "three", url)
    settings.data_dir.mkdir(mode=0o700)
    one = tmp_path / "one"
    secret = load_or_create_secret(one / "secret")
    for name in ("agent-ca.key", "jwt_key.pem"):
        key = load_key(one / name, secret)
        assert key is not None
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (settings.data_dir / name).write_bytes(pem)
    shutil.copy(one / "agent-ca.crt", settings.data_dir)
    return settings


async def kids(server: RealServer) -> list[str]:
    return [each["kid"] for each in (await server.get("/.well-known/jwks.json")).json()["keys"]]


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])
