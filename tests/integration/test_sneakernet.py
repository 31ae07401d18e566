"""Enrolment by files that are carried: real TLS afterwards, both databases, and whoever had the stick meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_world import eventually, live, living
from carried_files import edited
from ct_ops_agent import assembly
from ct_ops_agent.cli.enrol import install_reply, write_request
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.errors import DirectoryInUseError, EnrolmentRefusedError
from ct_ops_agent.identity.keystore import parse_pem
from ct_ops_agent.transport.first_contact import UnverifiedFirstContact
from ct_ops_proto.carried_enrolment import parse_request
from ct_ops_server.audit.entries import Entry
from ct_ops_server.config.schema import Settings
from ct_ops_server.store.audit_reading import SqlAuditStore
from ct_ops_server.store.database import Database
from real_server import RealServer, operator, real_server, settings_for


def config_of(folder: Path, hostname: str = "island-1") -> AgentConfig:
    """Return the configuration of a host that was told nothing."""
    return AgentConfig(
        address=None,
        ca_cert_file=None,
        tls_skip_verify=False,
        enrolment_token=None,
        data_dir=folder / hostname,
        heartbeat_interval=timedelta(seconds=30),
        tags=(),
        hostname=hostname,
    )


@dataclass
class Island:
    """A host that no server reaches, and what is carried there and back."""

    config: AgentConfig

    @property
    def request(self) -> Path:
        """The file that is carried to a server."""
        return self.config.data_dir.with_suffix(".json")

    @property
    def reply(self) -> Path:
        """The file that is carried back."""
        return self.config.data_dir.with_suffix(".reply.json")

    def ask(self) -> None:
        """Make a request."""
        write_request(self.config, self.request)

    async def signed_by(self, server: RealServer, **terms: Any) -> dict[str, Any]:
        """Have the request signed, keep the reply, and return what the server says."""
        body = {"actor": "test", "request": self.request.read_text(), "approve": True} | terms
        answer: dict[str, Any] = await server.ask("POST", "/v1/carried-requests", body)
        self.reply.write_text(answer.get("reply") or "")
        return answer

    def install(self, pin: str = "") -> str:
        """Install the reply; return the agent's id."""
        return install_reply(self.config, self.reply, pin).admission.identity.agent_id

    def refusal(self, pin: str = "") -> str:
        """Return why the reply is refused."""
        with pytest.raises(EnrolmentRefusedError) as refused:
            self.install(pin)
        return refused.value.refusal.reason

    def files(self) -> dict[str, bytes]:
        """Return what is in the data directory."""
        return {file.name: file.read_bytes() for file in self.config.data_dir.iterdir()}


@pytest.fixture
def island(tmp_path: Path) -> Island:
    made = Island(config_of(tmp_path))
    made.ask()
    return made


async def shown(server: RealServer, agent_id: str) -> dict[str, Any]:
    """Return what operators see of an agent."""
    found: dict[str, Any] = await server.ask("GET", f"/v1/agents/{agent_id}")
    return found


async def refused_reasons(server: RealServer) -> list[str]:
    """Return the reasons in the refusals."""
    return [each["reason"] for each in await server.ask("GET", "/v1/refusals")]


_OF_INTEREST = {"token.made", "agent.admitted", "agent.approved", "enrolment.signed"}


async def audited(server: RealServer) -> Sequence[Entry]:
    """Return the audit log."""
    database = await Database.open(server.settings.database_url)
    try:
        return await SqlAuditStore(database).entries_after(0, limit=1_000)
    finally:
        await database.dispose()


async def test_a_host_enrols_by_sneakernet_and_its_first_stream_is_accepted(
    server: RealServer, island: Island
) -> None:
    """Request, signature, reply: then heartbeats are stored over mTLS, without any token."""
    answer = await island.signed_by(server, tags={"site": "island"})
    agent_id = island.install(answer["ca_sha256"])
    await live(island.config, until=1)
    agent = await shown(server, agent_id)

    metrics = (await server.get("/metrics")).text
    registrations = [line for line in metrics.splitlines() if line.startswith("ct_ops_registrations_total{")]

    assert "# TYPE ct_ops_registrations_total" in metrics
    assert [] == registrations  # nobody registered: the first connection was a stream
    assert ("active", agent_id) == (answer["status"], answer["agent_id"])
    assert ("island-1", {"site": "island"}) == (agent["hostname"], agent["tags"])
    assert agent["vitals"]
    assert ["active"] == [change["status"] for change in agent["history"]]


async def test_a_host_that_waits_is_signed_after_its_approval(server: RealServer, island: Island) -> None:
    """The same file, the same agent."""
    waiting = await island.signed_by(server, approve=False)
    await server.ask("POST", f"/v1/agents/{waiting['agent_id']}/approve", {"actor": "test"})
    answer = await island.signed_by(server, approve=False)
    agent_id = island.install()
    await live(island.config, until=1)

    entries = [(entry.action, entry.actor) for entry in await audited(server) if entry.action in _OF_INTEREST]

    assert (("pending", None), agent_id) == ((waiting["status"], waiting["reply"]), waiting["agent_id"])
    assert "active" == answer["status"]
    assert (await shown(server, agent_id))["vitals"]
    assert [
        ("token.made", operator("test")),
        ("agent.admitted", "enrolment"),
        ("agent.approved", operator("test")),
        ("enrolment.signed", operator("test")),
    ] == entries


async def test_a_reply_of_a_server_between_two_cas_brings_both(server: RealServer, island: Island) -> None:
    """The host may first connect after a restore took the server back to the CA of before, or long after the change."""
    for step in ("prepare", "activate"):
        await server.ask("POST", f"/v1/server-ca/{step}", {"actor": "test", "force": True})
    data_dir = server.settings.data_dir
    both = {ders(data_dir / f"server-ca{number}.crt") for number in ("", "-2")}
    await until_announced(server, len(both))
    await island.signed_by(server)
    island.install()
    believed = ders(island.config.data_dir / "server_ca.pem")

    assert set().union(*both) == set(believed)


def ders(path: Path) -> tuple[bytes, ...]:
    """Return the certificates in a PEM file."""
    return tuple(der for _, der in parse_pem(path.read_text()))


async def until_announced(server: RealServer, number: int) -> None:
    """Wait until first contact is offered so many server CAs."""
    async with asyncio.timeout(30):
        while True:
            offered = await UnverifiedFirstContact().fetch_unverified_ca(f"127.0.0.1:{server.wire.port}")
            if len(parse_pem(offered)) == number:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("hours", [-9, 9])
async def test_a_server_whose_clock_is_hours_off_is_no_obstacle(
    settings: Settings, island: Island, hours: int
) -> None:
    """Its leaf begins in this host's future, or long ago; the stream is accepted by the server's own time."""
    # Its own certificates are of a time that this host knows: else no clock of the agent's could verify them.
    clock = [datetime.now(UTC) + timedelta(hours=min(hours, 0))]
    async with real_server(settings, now=lambda: clock[0]) as server:
        clock[0] += timedelta(hours=max(hours, 0))
        await island.signed_by(server)
        agent_id = island.install()
        await live(island.config, until=1)

        assert (await shown(server, agent_id))["vitals"]


async def test_a_server_whose_clock_was_ahead_when_it_signed_gives_another_leaf(
    sqlite_server_clock: tuple[RealServer, list[datetime]], island: Island
) -> None:
    """Set right since, it finds the leaf not valid yet: the agent proves its key and gets one that is."""
    server, clock = sqlite_server_clock
    clock[0] += timedelta(hours=9)
    await island.signed_by(server)
    agent_id = island.install()
    clock[0] -= timedelta(hours=9)
    await live(island.config, until=1)

    assert (await shown(server, agent_id))["vitals"]


@pytest.fixture
async def sqlite_server_clock(tmp_path: Path) -> AsyncIterator[tuple[RealServer, list[datetime]]]:
    clock = [datetime.now(UTC)]
    async with real_server(settings_for(tmp_path / "server"), now=lambda: clock[0]) as server:
        yield server, clock


async def test_attack_a_request_is_replayed_after_its_agent_was_deleted(
    server: RealServer, island: Island
) -> None:
    """The operator who signs it is told, and so are the refusals."""
    first = await island.signed_by(server)
    again = await island.signed_by(server)
    await server.ask("DELETE", f"/v1/agents/{first['agent_id']}", {"actor": "test"})
    replayed = await island.signed_by(server)

    assert (False, True) == (first["answered_before"], again["answered_before"])
    assert "request_replayed" == replayed["error"]["code"]
    assert ["request_replayed"] == await refused_reasons(server)
    assert [] == await server.ask("GET", "/v1/agents")


async def test_attack_a_request_is_edited_on_the_stick(sqlite_server: RealServer, island: Island) -> None:
    """Another hostname, to be approved by its good name."""
    request = parse_request(island.request.read_bytes())
    island.request.write_text(edited(request, hostname="payroll-1"))
    answer = await island.signed_by(sqlite_server)

    assert "request_altered" == answer["error"]["code"]
    assert "find out who had the stick" in answer["error"]["message"]
    assert ["request_altered"] == await refused_reasons(sqlite_server)


async def test_attack_replies_are_swapped_between_two_hosts(
    sqlite_server: RealServer, island: Island, tmp_path: Path
) -> None:
    """Each installs only its own, and neither is changed by the other's."""
    other = Island(config_of(tmp_path, "island-2"))
    other.ask()
    await island.signed_by(sqlite_server)
    twin = await other.signed_by(sqlite_server)  # both are this machine, so an operator has to look
    await sqlite_server.ask("POST", f"/v1/agents/{twin['agent_id']}/approve", {"actor": "test"})
    await other.signed_by(sqlite_server)
    island.reply.rename(tmp_path / "own")
    other.reply.rename(island.reply)
    before = island.files()

    assert "reply_not_awaited" == island.refusal()
    assert before == island.files()


async def test_attack_a_rogue_server_signs_what_was_on_the_stick(
    sqlite_server: RealServer, island: Island, tmp_path: Path
) -> None:
    """Its leaf is for this host's key and its reply is well formed; the pin tells it from the real one."""
    true = await island.signed_by(sqlite_server)
    async with rogue_server(tmp_path) as rogue:
        await island.signed_by(rogue)
    before = island.files()

    assert "reply_of_another_server" == island.refusal(pin=true["ca_sha256"])
    assert before == island.files()


@asynccontextmanager
async def rogue_server(folder: Path) -> AsyncIterator[RealServer]:
    """Run another installation."""
    async with real_server(settings_for(folder / "rogue")) as rogue:
        yield rogue


async def test_attack_a_reply_is_installed_a_second_time(sqlite_server: RealServer, island: Island) -> None:
    """What the agent has renewed since is not set back."""
    await island.signed_by(sqlite_server)
    island.install()

    assert "reply_not_awaited" == island.refusal()


async def test_a_host_that_was_enrolled_before_stays_the_same_agent(
    sqlite_server: RealServer, island: Island
) -> None:
    """A new request for a host that lost what it was given, or is to learn another authority."""
    await island.signed_by(sqlite_server)
    first = island.install()
    for name in ("agent_cert.pem", "agent_state.json"):
        (island.config.data_dir / name).unlink()
    island.ask()
    await island.signed_by(sqlite_server, approve=False)
    second = island.install()
    await live(island.config, until=1)

    assert first == second


async def test_attack_an_enrolled_host_is_not_moved_to_another_server_without_a_pin(
    sqlite_server: RealServer, island: Island, tmp_path: Path
) -> None:
    """The bundle of its first enrolment speaks against it; an operator's pin speaks for it."""
    await island.signed_by(sqlite_server)
    island.install()
    island.ask()
    async with rogue_server(tmp_path) as other:
        answer = await island.signed_by(other)

    assert "reply_of_another_server" == island.refusal()
    assert answer["agent_id"] == island.install(answer["ca_sha256"])


async def test_the_authority_that_an_installer_brought_is_a_beginning_that_a_pin_goes_beyond(
    sqlite_server: RealServer, island: Island, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server has another CA by now: the reply is refused without a pin, and connects the host with one."""
    installed = tmp_path / "agent-server-ca.crt"
    async with rogue_server(tmp_path) as earlier:
        installed.write_text(earlier.wire.ca_pem)
    monkeypatch.setattr(assembly, "AUTHORITY", installed)
    island.config = replace(island.config, ca_cert_file=installed)
    answer = await island.signed_by(sqlite_server)

    assert "reply_of_another_server" == island.refusal()
    agent_id = island.install(answer["ca_sha256"])
    await live(island.config, until=1)
    assert (await shown(sqlite_server, agent_id))["vitals"]


async def test_an_agent_that_runs_and_waits_takes_the_reply_without_a_restart(
    sqlite_server: RealServer, island: Island
) -> None:
    """The command leaves it there; the agent installs it at its next try, and nothing of it stays."""
    async with living(island.config) as agent:
        await island.signed_by(sqlite_server)
        installed = install_reply(island.config, island.reply, "")
        await eventually(lambda: agent.acknowledged > 0, agent)
        left = island.files().keys() & {"carried_reply.json", "carried_request.json"}
    vitals = (await shown(sqlite_server, installed.admission.identity.agent_id))["vitals"]

    assert installed.is_left
    assert (set(), True) == (left, vitals is not None)


async def test_an_agent_that_is_enrolled_and_runs_has_to_be_stopped_first(
    sqlite_server: RealServer, island: Island
) -> None:
    """Nobody takes the identity away under it."""
    await island.signed_by(sqlite_server)
    island.install()
    async with living(island.config) as agent:
        await eventually(lambda: agent.acknowledged > 0, agent)
        island.ask()  # needs nothing that the agent holds
        await island.signed_by(sqlite_server)
        with pytest.raises(DirectoryInUseError, match="systemctl stop ct-ops-agent"):
            island.install()


async def test_attack_garbage_in_place_of_a_request_is_refused(
    sqlite_server: RealServer, island: Island
) -> None:
    """Whatever it is; and the next request is answered."""
    garbage = ("", "ct_ops: enrolment-request", "[" * 60_000, "x" * 70_000, '{"ct_ops": "enrolment-reply"}')
    bodies = [{"actor": "test", "request": text} for text in garbage]
    answers = [await sqlite_server.ask("POST", "/v1/carried-requests", body) for body in bodies]

    assert ["malformed"] * len(garbage) == [answer["error"]["code"] for answer in answers]
    assert "active" == (await island.signed_by(sqlite_server))["status"]


async def test_what_makes_no_sense_is_told_to_the_operator(sqlite_server: RealServer, island: Island) -> None:
    """A key without its CSR, as in a Register of that form; and a named token beside other terms."""
    both = await island.signed_by(sqlite_server, token="x")
    request = parse_request(island.request.read_bytes())
    island.request.write_text(edited(request, csr=""))
    torn = await island.signed_by(sqlite_server)

    assert "a token that is named has terms of its own" in both["error"]["message"]
    assert "malformed" == torn["error"]["code"]
