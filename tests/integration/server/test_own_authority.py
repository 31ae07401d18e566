"""An agent CA of the operator's own, below a root of theirs, with real TLS: agents present their leaf alone."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.config.load import load_settings
from ct_ops_server.config.schema import Settings
from databases import drop_database, fresh_database
from own_authority import SERVERS_ONLY, OwnCa, make_ca
from real_server import RealServer, real_server, settings_for
from wire_client import Host, next_reply, reason_of

_PATIENCE_S = 30
_NOT_COPIED = shutil.ignore_patterns("*.sock", "*.lock", "*.db*")
_PROMPT_S = 10
"""It takes a second; a slow machine may take longer, and without taking it up it would be for ever."""


@pytest.fixture(scope="module")
def root() -> OwnCa:
    return make_ca("Own Root")


@pytest.fixture
def own_ca(root: OwnCa) -> OwnCa:
    return make_ca("Own Agents", above=root, path_length=0)


def settings_with(data_dir: Path, **more: str) -> Settings:
    """Return the settings of a server on loopback, with some more said."""
    plain = settings_for(data_dir)
    said = {
        "INGEST_DATA_DIR": str(plain.data_dir),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": "0",
        "INGEST_HTTP_PORT": "0",
        "AGENT_DIST_DIR": str(plain.agent_dist_dir),
    }
    return load_settings(said | more, env_file=data_dir / "no-such-file")


async def step(server: RealServer, name: str, **more: Any) -> Any:
    """Take the next step, and wait until every worker has taken it up."""
    plan = await server.ask("GET", "/v1/authority/ca/next")
    body = {"actor": "test", "version": plan["version"], **more}
    done = await server.ask("POST", f"/v1/authority/ca/{name}", body)
    await until_everywhere(server)
    return done


async def until_everywhere(server: RealServer) -> None:
    """Wait until every worker acts by the latest step."""
    async with asyncio.timeout(_PATIENCE_S):
        while (await server.ask("GET", "/v1/authority"))["workers_behind"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def states(server: RealServer) -> list[tuple[str, str]]:
    found = await server.ask("GET", "/v1/authority")
    return [(each["subject"], each["state"]) for each in found["authorities"]]


@pytest.mark.parametrize("inline", [False, True], ids=["files", "text"])
async def test_an_agent_of_an_intermediate_presents_its_leaf_alone(
    tmp_path: Path, own_ca: OwnCa, *, inline: bool
) -> None:
    """The chain is the server's to know; agents are given it beside their leaf."""
    said = own_ca.write(tmp_path / "pki")
    if inline:
        said = {
            "INGEST_AGENT_CA_CERT": own_ca.pem.replace("\n", "\\n"),
            "INGEST_AGENT_CA_KEY": own_ca.key_pem,
        }
    async with real_server(settings_with(tmp_path / "server", **said)) as server:
        host = Host("web-1")
        response = await server.wire.register(host, await server.token())
        await server.wire.beat(host)
        found = await states(server)

    assert [("CN=Own Agents", "active")] == found
    assert own_ca.pem == response.agent_ca_cert_pem
    assert 1 == host.leaf_pem.count("BEGIN CERTIFICATE")
    assert not list((tmp_path / "server").glob("agent-ca.*"))


async def test_attack_a_leaf_of_another_ca_below_the_same_root_is_nobodys(
    tmp_path: Path, root: OwnCa, own_ca: OwnCa
) -> None:
    """A corporate root signs much; its handshake completes, and makes no agent."""
    said = own_ca.write(tmp_path / "pki")
    async with real_server(settings_with(tmp_path / "server", **said)) as server:
        host = await server.enrolled("web-1")
        leaf = x509.load_pem_x509_certificate(host.leaf_pem.encode())
        sibling = make_ca("Other Agents", above=root)
        host.leaf_pem = (
            signed_again(leaf, sibling)
            + sibling.certificate.public_bytes(serialization.Encoding.PEM).decode()
        )
        async with server.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await stream.read()

    assert (grpc.StatusCode.UNAVAILABLE, "leaf_unknown_authority") == (
        refusal.value.code(),
        reason_of(refusal.value),
    )


def signed_again(leaf: x509.Certificate, ca: OwnCa) -> str:
    """Return the same leaf by another CA."""
    builder = x509.CertificateBuilder(
        ca.certificate.subject, leaf.subject, leaf.public_key(), leaf.serial_number
    )
    builder = builder.not_valid_before(dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    builder = builder.not_valid_after(dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


async def test_a_ca_that_is_named_later_is_prepared_and_waits(tmp_path: Path, own_ca: OwnCa) -> None:
    """Agents of the one before stay; after the rotation their leaves are of the operator's."""
    data_dir = tmp_path / "server"
    async with real_server(settings_with(data_dir)) as server:
        host = await server.enrolled("web-1")
    said = own_ca.write(tmp_path / "pki")
    for _ in range(2):
        async with real_server(settings_with(data_dir, **said)) as server:
            await server.wire.beat(host)
            prepared = await states(server)
    async with real_server(settings_with(data_dir, **said)) as server:
        await until_everywhere(server)
        await step(server, "activate")
        await step(server, "retire", force=True)
        await server.wire.register(host, "")
        await server.wire.beat(host)

    assert [("CN=CT-Ops Agent CA", "active"), ("CN=Own Agents", "prepared")] == prepared
    assert "CN=Own Agents" == issuer_of(host)
    assert not list(data_dir.glob("agent-ca.*"))


async def test_a_ca_is_brought_when_one_is_prepared(sqlite_server: RealServer, own_ca: OwnCa) -> None:
    """By the command, without any setting: sealed in the database. A bad one is refused with the reason."""
    server = sqlite_server
    bad = make_ca("For Servers", uses=SERVERS_ONLY)
    refusal = await step(server, "prepare", certificates=bad.pem, private_key=bad.key_pem)
    await step(server, "prepare", certificates=own_ca.pem, private_key=own_ca.key_pem)
    await step(server, "activate")
    host = await server.enrolled("web-1")
    await server.wire.beat(host)

    assert "lacks clientAuth" in refusal["error"]["message"]
    assert "CN=Own Agents" == issuer_of(host)


async def test_a_ca_that_cannot_certify_clients_stops_the_start(tmp_path: Path) -> None:
    """Not the first agent."""
    said = make_ca("For Servers", uses=SERVERS_ONLY).write(tmp_path / "pki")
    with pytest.raises(AuthorityError, match=r"ca\.pem: may not certify clients"):
        async with real_server(settings_with(tmp_path / "server", **said)):
            pass


@pytest.fixture
async def nodes_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    url = await fresh_database(request.getfixturevalue("postgres").url)
    yield url
    await drop_database(url)


@pytest.mark.parametrize("step", ["renewed", "prepared", "token key prepared"])
async def test_the_start_of_one_node_is_taken_up_by_the_other_within_a_second(
    tmp_path: Path, nodes_url: str, root: OwnCa, step: str
) -> None:
    """A renewed certificate, or a new CA that is prepared: the other node runs on, and its streams live through it."""
    own = make_ca("Own Agents", above=root, days=(-1, 400))
    said = own.write(tmp_path / "pki") | {"DATABASE_URL": nodes_url}
    theirs = {"DATABASE_URL": nodes_url}
    if step == "renewed":
        theirs |= own.write(tmp_path / "pki of the other")
        own = make_ca("Own Agents", above=root, key=own.key, days=(-1, 4000))
        own.write(tmp_path / "pki")
    if step == "token key prepared":
        said = theirs | {"INGEST_JWT_KEY_FILE": str(tmp_path / "next.pem")}
        (tmp_path / "next.pem").write_text(make_ca("any", key=rsa.generate_private_key(65537, 2048)).key_pem)
    async with real_server(settings_with(tmp_path / "two", **theirs)) as stays:
        shutil.copytree(tmp_path / "two", tmp_path / "one", ignore=_NOT_COPIED)
        host = await stays.enrolled("web-1")
        before = issuer_of(host)
        async with stays.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            await next_reply(stream)
            async with real_server(settings_with(tmp_path / "one", **said)) as starts:
                async with asyncio.timeout(_PROMPT_S):
                    while await version_of(stays) != await version_of(starts):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                    await until_everywhere(stays)
                await starts.wire.beat(newcomer := await stays.enrolled("web-2"))
                await stays.wire.beat(await starts.enrolled("web-3"))
                found = await states(stays)
                keys = (await stays.ask("GET", "/v1/authority"))["signing_keys"]
            await stream.write(host.first_frame())
            await next_reply(stream)
            stream.cancel()
        await stays.wire.beat(host)  # with its first leaf
        chain = (await stays.wire.register(Host("web-4"), await stays.token())).agent_ca_cert_pem

    assert before == issuer_of(newcomer)
    if step == "renewed":
        assert ([("CN=Own Agents", "retired"), ("CN=Own Agents", "active")], own.pem) == (found, chain)
    elif step == "prepared":
        assert [(before, "active"), ("CN=Own Agents", "prepared")] == found
    else:
        assert ["active", "prepared"] == [each["state"] for each in keys]


async def version_of(server: RealServer) -> int:
    return int((await server.ask("GET", "/v1/authority"))["version"])


def issuer_of(host: Host) -> str:
    return x509.load_pem_x509_certificate(host.leaf_pem.encode()).issuer.rfc4514_string()
