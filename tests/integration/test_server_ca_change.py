"""A real agent over real TLS lives through a change of the server's CA: online, asleep, and with a token of before."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent_world import Living, World, eventually, living, new_world, until_more
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.identity.keystore import parse_pem
from ct_ops_agent.transport.first_contact import UnverifiedFirstContact
from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.enrolment_token import parse_token
from ct_ops_server.authority import files
from ct_ops_server.authority.root import RootName, make_root_certificate
from ct_ops_server.authority.sealing import load_or_create_secret
from ct_ops_server.authority.server_ca import Turn
from ct_ops_server.authority.server_ca_files import Vault
from ct_ops_server.fleet.shared_server_cas import Recorded, ServerCaStore, SharedServerCas
from ct_ops_server.ownership import one_at_a_time
from ct_ops_server.store.opening import open_store
from real_server import real_server, settings_for
from server_ca_steps import ServerCaNode
from wire_client import Host, next_reply, reason_of


def certificates(path: Path) -> list[bytes]:
    """Return what a PEM file holds, DER."""
    return [der for _, der in parse_pem(path.read_text())]


def bundle_of(config: AgentConfig) -> list[bytes]:
    """Return what an agent believes."""
    return certificates(config.data_dir / "server_ca.pem")


def server_ca(world: World, number: int = 1) -> bytes:
    """Return the n-th server CA of the server."""
    stem = "server-ca" if number == 1 else f"server-ca-{number}"
    return certificates(world.server.settings.data_dir / f"{stem}.crt")[0]


async def step(world: World, name: str, *, force: bool = False) -> dict[str, Any]:
    """Take a step of the server CA."""
    body = {"actor": "test", "force": force}
    return dict(await world.server.ask("POST", f"/v1/server-ca/{name}", body))


async def switch(world: World) -> None:
    """Prepare and activate the next one, whoever knows it, and wait until it is served."""
    await step(world, "prepare")
    await step(world, "activate", force=True)
    await served(world, server_ca(world, 2))


async def served(world: World, first: bytes) -> None:
    """Wait until this CA signs for new connections."""
    async with asyncio.timeout(30):
        while True:
            if (await published(world))[0] == first:
                return
            await asyncio.sleep(0.05)


async def published(world: World) -> list[bytes]:
    """Return what first contact by pin is offered."""
    pem = await UnverifiedFirstContact().fetch_unverified_ca(f"127.0.0.1:{world.server.wire.port}")
    return [der for _, der in parse_pem(pem)]


async def until_believed(config: AgentConfig, wanted: set[bytes], agent: Living) -> None:
    """Let heartbeats be due until the agent has these server CAs on its disk."""
    await eventually(lambda: set(bundle_of(config)) == wanted, agent)


async def share_of_the_next(world: World) -> float:
    """Return how much of the fleet believes the server CA that is to be the next."""
    found = dict(await world.server.ask("GET", "/v1/server-ca"))
    return next(float(each["share"]) for each in found["authorities"] if each["role"] == "next")


async def until_share(world: World, share: float, agent: Living) -> dict[str, Any]:
    """Let heartbeats be due until so much of the fleet believes the newest server CA; return what operators see."""
    async with asyncio.timeout(30):
        while True:
            found = dict(await world.server.ask("GET", "/v1/server-ca"))
            newest = next(
                (each for each in found["authorities"] if each["role"] == "next"), found["authorities"][0]
            )
            if newest["share"] == share:
                return found
            agent.due.set()
            await asyncio.sleep(0.05)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server and an agent that is enrolled there."""
    async with new_world(tmp_path) as world:
        await world.once(world.config)
        yield world


async def test_an_agent_learns_the_next_server_ca_on_its_stream_and_outlives_the_old_one(
    world: World,
) -> None:
    """Announced, stored, confirmed; only then the server switches; the old one is forgotten at last."""
    old = server_ca(world)
    assert bundle_of(world.config) == [old]
    async with living(world.without_token, world.agent_clock) as agent:
        await until_more(agent)
        await step(world, "prepare")
        await until_believed(world.config, {old, server_ca(world, 2)}, agent)
        await until_share(world, 1.0, agent)

        shown = await step(world, "activate")  # not forced: the whole fleet has confirmed
        assert [each["role"] for each in shown["authorities"]] == ["signs", "before"]
        await served(world, server_ca(world, 2))
        await until_more(agent)
    async with living(world.without_token, world.agent_clock) as agent:
        await until_more(agent)
        shown = await step(world, "retire")
        assert [each["role"] for each in shown["authorities"]] == ["signs"]
        await until_believed(world.config, {server_ca(world, 2)}, agent)
        await until_more(agent)
    async with living(world.without_token, world.agent_clock) as agent:
        await until_more(agent)  # by the new one alone


async def test_an_agent_learns_at_once_though_no_heartbeat_is_due(world: World) -> None:
    """It may be connected for a moment only: what its first reply announced is on the disk, and confirmed, at once."""
    await step(world, "prepare")
    wanted = {server_ca(world), server_ca(world, 2)}
    # The server looks at the files once a second, and the agent's first reply is the only one.
    async with asyncio.timeout(30):
        while set(await published(world)) != wanted:  # noqa: ASYNC110  asked of the server
            await asyncio.sleep(0.05)
    async with living(world.without_token, world.agent_clock), asyncio.timeout(30):
        while set(bundle_of(world.config)) != wanted or await share_of_the_next(world) < 1.0:  # noqa: ASYNC110  files
            await asyncio.sleep(0.02)


async def test_retiring_is_refused_while_a_single_agent_would_be_cut_off(world: World) -> None:
    """It sleeps since before the next one was announced, and could learn nothing any more."""
    await switch(world)
    refused = await step(world, "retire")
    assert "1 of 1 agents do not believe it yet and would be cut off at once" in str(refused)
    async with living(world.without_token, world.agent_clock) as agent:
        await until_share(world, 1.0, agent)
    shown = await step(world, "retire")

    assert [each["role"] for each in shown["authorities"]] == ["signs"]


async def test_an_agent_that_slept_through_the_switch_wakes_up_and_learns(world: World) -> None:
    """It knows only the old CA, which vouches for the new one in the chain."""
    await switch(world)

    async with living(world.without_token, world.agent_clock) as agent:
        await until_more(agent)
        await until_believed(world.config, {server_ca(world), server_ca(world, 2)}, agent)


async def test_an_agent_that_slept_through_two_switches_wakes_up_and_learns(world: World) -> None:
    """It believes only the first of three server CAs, whose end is years away: the chain is one line down to it."""
    await switch(world)
    await step(world, "prepare")
    await step(world, "activate", force=True)
    await served(world, server_ca(world, 3))

    async with living(world.without_token, world.agent_clock) as agent:
        await until_more(agent)
        await until_believed(world.config, {server_ca(world, number) for number in (1, 2, 3)}, agent)
        await until_share(world, 1.0, agent)
        shown = await step(world, "retire")
        assert [each["role"] for each in shown["authorities"]] == ["signs"]
        await until_believed(world.config, {server_ca(world, 3)}, agent)


async def test_a_server_that_starts_with_a_clock_years_ahead_moves_no_server_ca(tmp_path: Path) -> None:
    """The database's clock says otherwise: that is told to operators, and once the clock is right nothing has changed."""
    settings, ahead = settings_for(tmp_path / "server"), datetime.now(UTC) + timedelta(days=3500)
    async with real_server(settings):
        pass
    async with real_server(settings, now=lambda: ahead) as server:
        found = dict(await server.ask("GET", "/v1/server-ca"))
        assert "and the database's" in found["problem"]
        assert [each["role"] for each in found["authorities"]] == ["signs"]
    async with real_server(settings) as server:
        found = dict(await server.ask("GET", "/v1/server-ca"))
        assert (found["problem"], len(found["authorities"])) == ("", 1)
        await server.enrolled(
            "comes-back"
        )  # its certificate is valid again: that of the wrong clock is not served


async def test_a_clock_of_host_and_database_that_is_years_ahead_takes_steps_that_cost_nobody_anything(
    world: World,
) -> None:
    """What time does then is in the audit log; an agent of before believes the server all the time afterwards."""
    settings = world.server.settings
    ahead = datetime.now(UTC) + timedelta(days=3600)
    secret = load_or_create_secret(settings.secret_file)
    async with open_store(settings.database_url) as store:
        leaping = SharedServerCas(
            AheadStore(store.server_cas, ahead),
            secret,
            data_dir=settings.data_dir,
            alone=one_at_a_time,
            now=lambda: ahead,
        )
        assert await leaping.take_due() == [Turn.PREPARE, Turn.ACTIVATE]
    await served(world, server_ca(world, 2))
    entries = await world.server.ask("GET", "/v1/audit?limit=10")

    assert {"server_ca.prepared", "server_ca.activated"} <= {each["action"] for each in entries}
    async with living(world.without_token, world.agent_clock) as agent:
        await until_more(agent)
        await until_believed(world.config, {server_ca(world), server_ca(world, 2)}, agent)


class AheadStore:
    """A database whose clock is wrong the same way as this host's: SQLite's is this host's."""

    def __init__(self, store: ServerCaStore, clock: datetime) -> None:
        self._clock = clock
        self.heard, self.report, self.stragglers = store.heard, store.report, store.stragglers
        self.change = store.change
        self._load = store.load

    async def load(self) -> Recorded:
        return replace(await self._load(), clock=self._clock)


async def test_an_agent_asleep_until_the_old_ca_is_gone_comes_back_by_its_bundle(world: World) -> None:
    """It had learnt the next one before it fell asleep."""
    async with living(world.without_token, world.agent_clock) as agent:
        await step(world, "prepare")
        await until_believed(world.config, {server_ca(world), server_ca(world, 2)}, agent)
        await until_share(world, 1.0, agent)
    await step(world, "activate")
    await step(world, "retire")
    await served(world, server_ca(world, 2))

    async with living(world.without_token, world.agent_clock) as agent:
        await until_more(agent)
        await until_believed(world.config, {server_ca(world, 2)}, agent)


async def test_a_token_of_before_the_switch_admits_an_agent_after_it(world: World) -> None:
    """It pins the old CA, which is still published, and which vouches for the new one."""
    token = await world.server.token(max_uses=1)
    await switch(world)
    config = replace(
        world.config,
        data_dir=world.config.data_dir.with_name("second"),
        enrolment_token=parse_token(token),
        hostname="host-2",
    )

    async with living(config, world.agent_clock) as agent:
        await approve_second(world)  # both run on this machine, which looks like a clone
        await until_believed(config, {server_ca(world), server_ca(world, 2)}, agent)


async def approve_second(world: World) -> None:
    """Wait for the application of host-2, and approve it."""
    async with asyncio.timeout(30):
        while True:
            found = await world.server.ask("GET", "/v1/agents")
            if ids := [each["id"] for each in found if each["hostname"] == "host-2"]:
                break
            await asyncio.sleep(0.05)
    await world.server.ask("POST", f"/v1/agents/{ids[0]}/approve", {"actor": "test", "reason": "a test"})


async def test_an_existing_agent_goes_on_by_the_old_ca_and_is_named_before_the_switch(world: World) -> None:
    """It cannot learn another server CA, so it stands in the way of a switch by name; forced, nothing happens to it."""
    host = Host("old-host")
    await world.server.wire.register(host, await world.server.token())
    await step(world, "prepare")

    refused = await step(world, "activate")
    assert "old-host" in refused["error"]["message"]
    assert "existing agents" in refused["error"]["message"]

    await step(world, "activate", force=True)
    await served(world, server_ca(world, 2))
    async with world.server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame())
        reply = await next_reply(stream)
        assert not reply.HasField("anchors"), "what it does not know is not sent to it"
        await stream.done_writing()


async def test_what_an_operator_configured_is_kept_to_and_only_reported(world: World) -> None:
    """An announcement does not change whom such a host believes; the server knows that it cannot follow."""
    config_ca = world.config.data_dir.with_name("configured.pem")
    config_ca.write_text(world.server.wire.ca_pem)
    config = replace(world.without_token, ca_cert_file=config_ca)
    async with living(config, world.agent_clock) as agent:
        await until_more(agent)
        await step(world, "prepare")
        found = await until_share(world, 0.0, agent)
        async with asyncio.timeout(30):
            while not found["authorities"][1]["configured_elsewhere"]:
                agent.due.set()
                await asyncio.sleep(0.05)
                found = dict(await world.server.ask("GET", "/v1/server-ca"))
    assert bundle_of(config) == [server_ca(world)]
    assert config_ca.read_text() == world.server.wire.ca_pem
    assert "ingest.ca_cert_file" in (await step(world, "activate"))["error"]["message"]


async def test_a_report_that_is_no_such_thing_is_not_minded(world: World) -> None:
    """Whatever a hostile agent claims to believe costs nobody anything."""
    host = await world.server.enrolled("liar")
    frame = host.first_frame()
    frame.hello.features.append("anchors")
    frame.anchors.source = wire.AnchorReport.LEARNT
    frame.anchors.believed.extend(hashlib.sha256(bytes([n])).digest() for n in range(200))
    async with world.server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        try:
            await stream.write(frame)
            reply = await next_reply(stream)
        except grpc.aio.AioRpcError as error:
            pytest.fail(reason_of(error))
        assert list(reply.anchors.certificates) == [server_ca(world)]
        await stream.done_writing()


async def test_attack_an_impostor_at_the_servers_address_plants_no_root(world: World, tmp_path: Path) -> None:
    """Another server, with a CA of its own that it announces: the handshake fails, and nothing is learnt."""
    async with real_server(settings_for(tmp_path / "impostor")) as impostor:
        config = replace(world.without_token, address=f"127.0.0.1:{impostor.wire.port}")
        before = bundle_of(config)
        with pytest.raises(UnreachableError):
            await world.once(config)
        assert bundle_of(config) == before


async def test_a_configured_ca_file_that_changes_is_announced_whole(tmp_path: Path) -> None:
    """An operator puts the next CA beside the one that signs; agents that learnt theirs believe both."""
    tls = tmp_path / "tls"
    files.open_private_directory(tls)
    secret, now = load_or_create_secret(tls / "secret"), datetime.now(UTC)
    node = ServerCaNode(tls, secret, names=["localhost", "127.0.0.1"])
    node.serve(now)
    node.step(Turn.PREPARE, now)
    configured = replace(
        settings_for(tmp_path / "server"),
        tls_cert=tls / "server.crt",
        tls_key=tls / "server.key",
        tls_ca=tls / "server-ca.crt",
    )
    async with new_world(tmp_path, configured) as world:
        await world.once(world.config)
        async with living(world.without_token, world.agent_clock) as agent:
            await until_more(agent)
            following = (tls / "server-ca-2.crt").read_text()
            (tls / "server-ca.crt").write_text((tls / "server-ca.crt").read_text() + following)
            await until_believed(world.config, set(certificates(tls / "server-ca.crt")), agent)
        assert "INGEST_TLS_CA" in (await step(world, "activate"))["error"]["message"]


async def test_server_cas_whose_dates_are_far_off_are_believed_beside_and_cost_nothing(
    tmp_path: Path,
) -> None:
    """One has ended, one begins in years; both have the name of the one that signs, as roots that are renewed have."""
    tls = tmp_path / "tls"
    node = ServerCaNode(tls, load_or_create_secret(tmp_path / "secret"), names=["localhost", "127.0.0.1"])
    now = datetime.now(UTC)
    node.serve(now)
    root = Vault(tls, node.secret).root_of(node.lineage.signs)
    name = RootName("server-ca", "CT-Ops Server CA", "", key_in_name=True, path_length=1)
    ended, coming = (
        make_root_certificate(root.key, name, now=now + years).public_bytes(Encoding.PEM).decode()
        for years in (timedelta(days=-5000), timedelta(days=4000))
    )
    ca_file = tls / "announced.pem"
    ca_file.write_text(root.pem)
    configured = replace(
        settings_for(tmp_path / "server"),
        tls_cert=tls / "server.crt",
        tls_key=tls / "server.key",
        tls_ca=ca_file,
    )
    async with new_world(tmp_path, configured) as world:
        await world.once(world.config)
        ca_file.write_text(root.pem + coming + ended)
        everything = set(certificates(ca_file))
        async with living(world.without_token, world.agent_clock) as agent:
            await until_believed(world.config, everything, agent)
        assert bundle_of(world.config)[0] == root.der, "what works keeps its place"
        async with living(world.without_token, world.agent_clock) as agent:
            await until_more(agent)  # a connection of its own, with all of them
            assert set(bundle_of(world.config)) == everything, "nothing is dropped for its dates"
            ca_file.write_text(root.pem)
            await until_believed(world.config, {root.der}, agent)
