"""Restored from last night's backup (rule 25): nobody is resurrected, everybody else comes back by himself.

Real TLS, both databases; agents as they are in the field, and ours with its outbox.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ct_ops_agent.assembly import BuiltAgent, built_agent
from ct_ops_agent.clock import Clock
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.daemon import run_once
from ct_ops_agent.identity.credentials import LEAF_NAME
from ct_ops_agent.identity.keystore import PRIVATE_KEY_NAME
from ct_ops_agent.work import CheckResult, CheckStatus
from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.enrolment_token import parse_token
from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import Entry, chained
from ct_ops_server.audit.lines import line_of
from ct_ops_server.audit.reading import audit_files, read_entries
from ct_ops_server.audit.verification import breaks
from ct_ops_server.backup.errors import BackupError, OccupiedError
from ct_ops_server.backup.returning import Choices
from ct_ops_server.backup.since import Why
from ct_ops_server.store.backup import restore as put_back
from databases import PostgresServer
from putting_agent import config_for
from real_server import RealServer, operator
from restored_world import Site, new_site
from wire_client import Host, make_csr, next_reply, reason_of


@pytest.fixture
def site(
    tmp_path: Path, database_url: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Site:
    """An empty machine; the tools of its PostgreSQL are its server's."""
    monkeypatch.setenv("PATH", f"{postgres.tools}:/usr/bin:/bin")
    url = database_url if database_url.startswith("postgresql") else ""
    return new_site(tmp_path, url)


async def beat(server: RealServer, host: Host) -> str:
    """Open a stream as this host; return ``ok``, or why not."""
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        try:
            await stream.write(host.first_frame())
            await next_reply(stream)
        except grpc.aio.AioRpcError as error:
            return reason_of(error) or str(error.details())
        stream.cancel()
        return "ok"


async def register(server: RealServer, host: Host, token: str = "") -> str:
    """Register as existing agents do; return the status, or why not."""
    try:
        return (await server.wire.register(host, token)).status
    except grpc.aio.AioRpcError as error:
        return reason_of(error)


@dataclass
class Field:
    """Hosts of the day after the backup, and the token that one of them has used since."""

    kept: Host
    revoked: Host
    deleted: Host
    approved: Host
    newcomer: Host
    stolen: Host
    """Enrolled and revoked since."""
    gone: Host
    """Enrolled and deleted since."""
    once: str
    withdrawn: str


async def live_a_night_and_a_day(site: Site, server: RealServer) -> Field:
    """Let things happen before and after the backup; return the hosts."""
    once, any_number = await server.token(max_uses=1, label="once"), await server.token(label="any")
    withdrawn = await server.token(label="withdrawn")
    careful = await server.token(auto_approve=False, label="careful")
    before = {name: Host(name) for name in ("kept", "revoked", "deleted", "approved")}
    for host in before.values():
        await server.wire.register(host, careful if host.hostname == "approved" else any_number)
    await site.back_up()
    since = {name: Host(name) for name in ("newcomer", "stolen", "gone")}
    for host in since.values():
        await server.wire.register(host, once if host.hostname == "newcomer" else any_number)
    field = Field(**before, **since, once=once, withdrawn=withdrawn)
    for host, decision in ((field.revoked, "revoke"), (field.approved, "approve"), (field.stolen, "revoke")):
        await server.decide(host, decision)
    for host in (field.deleted, field.gone):
        await server.ask("DELETE", f"/v1/agents/{host.agent_id}", {"actor": "alice"})
    await server.wire.register(field.approved, careful)
    await server.ask("POST", "/v1/tokens/withdrawn/revoke", {"actor": "test"})
    return field


async def test_a_restore_resurrects_nobody_and_lets_everybody_else_back_in(site: Site) -> None:
    """What was revoked, deleted, approved or spent since the backup is so again; newcomers wait for one command."""
    async with site.serving() as server:
        field = await live_a_night_and_a_day(site, server)
    site.keep_audit_files()
    known = await site.chain()
    await site.destroy()
    done = await site.restore()
    async with site.serving() as server:
        kept = [await beat(server, field.kept), await beat(server, field.kept)]
        served = {
            name: await beat(server, getattr(field, name))
            for name in ("revoked", "deleted", "approved", "newcomer", "stolen", "gone")
        }
        registered = {
            name: await register(server, getattr(field, name))
            for name in ("revoked", "deleted", "newcomer", "stolen", "gone")
        }
        spent = await register(server, Host("thief"), field.once)
        withdrawn = await register(server, Host("other"), field.withdrawn)
        history = (await server.agent(field.revoked))["history"]
        approved = await server.ask("POST", "/v1/restored-agents/approve", {"actor": "test"})
        again = (await register(server, field.newcomer), await beat(server, field.newcomer))

    chain = await site.chain()

    assert done.settled.tokens_revoked == 0
    assert kept == ["ok", "ok"]
    assert served == {
        "revoked": "revoked",
        "deleted": "unknown_agent",
        "approved": "ok",
        "newcomer": "unknown_agent",
        "stolen": "unknown_agent",
        "gone": "unknown_agent",
    }
    assert registered == {
        "revoked": "revoked",
        "deleted": "token_missing",
        "newcomer": "pending",
        "stolen": "revoked",
        "gone": "token_missing",
    }
    assert (spent, withdrawn) == ("token_exhausted", "token_revoked")
    assert ("revoked", operator("test"), "a test") == tuple(
        history[-1][key] for key in ("status", "actor", "reason")
    )
    assert [field.newcomer.agent_id] == [agent["id"] for agent in approved]
    assert again == ("active", "ok")
    assert chain[: len(known)] == known
    assert chain[len(known)].action == Action.DATABASE_RESTORED.value
    assert breaks(chain) == []


async def test_without_an_audit_log_it_takes_a_word_and_no_token_stays_usable(site: Site) -> None:
    """Nothing tells what was spent since; what was revoked since is for the operator to revoke again."""
    async with site.serving() as server:
        field = await live_a_night_and_a_day(site, server)
    await site.destroy()
    with pytest.raises(BackupError, match="--forget-revocations"):
        await site.restore()
    done = await site.restore(Choices(forget_revocations=True))
    async with site.serving() as server:
        spent = await register(server, Host("thief"), field.once)
        kept = await beat(server, field.kept)

    assert done.settled.tokens_revoked == 4
    assert (spent, kept) == ("token_revoked", "ok")


def append_to_audit_files(site: Site, *decisions: Decision) -> None:
    """Do what everybody can who can write to the folder: entries that follow each other."""
    paths = audit_files(site.audit)
    last = [*read_entries(paths)][-1]
    forged = chained(decisions, last.link, at_ms=last.at_ms + 1)
    paths[-1].write_bytes(paths[-1].read_bytes() + b"".join(map(line_of, forged)))


async def test_attack_an_approval_that_was_appended_to_the_audit_files_admits_nobody(site: Site) -> None:
    """Not at this restore, and not at a later one of the same backup, when the server has signed what stands behind it."""
    async with site.serving() as server:
        careful = await server.token(auto_approve=False)
        pending, kept = Host("pending"), await server.enrolled("kept")
        await server.wire.register(pending, careful)
        await site.back_up()
        await server.token(label="something")
    site.keep_audit_files()
    forged = Decision(Action.AGENT_APPROVED, "anna", agent=pending.agent_id)
    append_to_audit_files(site, forged, Decision(Action.TOKEN_REVOKED, "anna", token="anything"))
    seen = []
    for _ in range(2):
        await site.destroy()
        done = await site.restore()
        async with site.serving() as server:
            answers = (await register(server, pending, careful), await beat(server, kept))
        assert done.since is not None
        seen.append(([each.why for each in done.since.disbelieved], answers))
        (first, *_) = done.since.disbelieved
        shutil.rmtree(site.audit)
        site.keep_audit_files()
    chain = await site.chain()
    restored = [entry for entry in chain if entry.action == Action.DATABASE_RESTORED.value]

    assert [([Why.UNSIGNED], ("pending", "ok")), ([Why.DOUBTED], ("pending", "ok"))] == seen
    assert first.entry.agent == pending.agent_id
    number = first.entry.seq
    assert (number, number + 1) == unvouched_by(restored[0])
    assert breaks(chain) == []


def unvouched_by(restored: Entry) -> tuple[object, ...]:
    return tuple(restored.details.get(f"unvouched_{end}") for end in ("from", "to"))


async def test_forgetting_revocations_forgets_only_what_cannot_be_read(site: Site) -> None:
    """A flaw in the files: what they do tell is done again, and no token stays usable."""
    async with site.serving() as server:
        field = await live_a_night_and_a_day(site, server)
    site.keep_audit_files()
    append_to_audit_files(site, Decision(Action.TOKEN_REVOKED, "anna"))
    path = audit_files(site.audit)[-1]
    path.write_bytes(path.read_bytes() + b"a line that nobody can read\n")
    await site.destroy()
    with pytest.raises(BackupError, match="not as it was written"):
        await site.restore()
    done = await site.restore(Choices(forget_revocations=True))
    async with site.serving() as server:
        hosts = (field.kept, field.revoked, field.stolen, field.approved)
        served = [await register(server, host) for host in hosts]

    assert served == ["active", "revoked", "revoked", "active"]
    assert done.settled.tokens_revoked > 0
    assert done.since is not None
    assert "not as it was written" in done.since.flaw


async def test_nothing_is_restored_under_a_server_that_runs(
    postgres_url: str, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another node: its lease in the database says so. One of this host holds the data directory."""
    monkeypatch.setenv("PATH", f"{postgres.tools}:/usr/bin:/bin")
    site = new_site(tmp_path, postgres_url)
    elsewhere = replace(site.settings, data_dir=tmp_path / "elsewhere", secret_file=tmp_path / "secret")
    async with site.serving():
        await site.back_up()
        with pytest.raises(OccupiedError, match="a server is running"):
            await Site(tmp_path, elsewhere).restore(Choices(forget_revocations=True, replace=True))


async def test_what_is_replaced_is_kept_whole(site: Site) -> None:
    """Whoever restored the wrong backup goes back by what was kept."""
    async with site.serving() as server:
        await server.enrolled("first")
        await site.back_up()
        await server.enrolled("second")
    with pytest.raises(OccupiedError, match="--replace"):
        await site.restore(Choices(forget_revocations=True))
    done = await site.restore(Choices(forget_revocations=True, replace=True))
    async with site.serving() as server:
        hosts = [agent["hostname"] for agent in await server.ask("GET", "/v1/agents")]
    assert done.kept is not None
    if site.settings.database_url.startswith("sqlite"):
        with closing(sqlite3.connect(done.kept / "ct-ops.db")) as database:
            kept = {row[0] for row in database.execute("SELECT hostname FROM agents")}
    else:
        dump = done.kept / "database.dump"
        await asyncio.to_thread(put_back, site.settings.database_url, dump, now=datetime.now(UTC))
        async with site.serving() as server:
            kept = {agent["hostname"] for agent in await server.ask("GET", "/v1/agents")}

    assert hosts == ["first"]
    assert kept == {"first", "second"}


START_MS = int(time.time() - 7200) * 1000


@dataclass
class OurAgent:
    """Ours, with an outbox, on a host whose clock the test holds."""

    config: AgentConfig
    check_id: str
    passed_s: float = 0.0
    """That the test let pass: an outbox counts hours by what passes while it is open, never by the wall clock."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[BuiltAgent]:
        """Run it until the end of the block; its waits are short."""

        async def hurry(_seconds: float) -> None:
            await asyncio.sleep(0.02)

        due = asyncio.Event()
        clock = Clock(monotonic=lambda: time.monotonic() + self.passed_s, sleep=hurry)
        with built_agent(self.config, due, clock) as agent:
            assert agent.workshop is not None
            parts = [asyncio.create_task(part.run()) for part in (agent.workshop, agent.lifecycle)]
            parts.append(asyncio.create_task(_beat(due)))
            try:
                yield agent
            finally:
                for part in parts:
                    part.cancel()
                await asyncio.gather(*parts, return_exceptions=True)

    async def deliver(self, numbers: range, *, after_h: float = 0.0) -> None:
        """Let hours pass, put results, and wait until the server has acknowledged all."""
        async with self.running() as agent:
            assert agent.courier is not None
            self.passed_s += after_h * 3600
            for number in numbers:
                result = CheckResult(self.check_id, CheckStatus.PASS, "ok", 1, START_MS + number * 1000)
                await agent.courier.put(result)
            await until_delivered(agent)

    async def back_at(self, server: RealServer, expected: set[int]) -> dict[str, tuple[int, str]]:
        """Run until the server has these results and a gap; return the gaps by their type."""
        async with self.running():
            await eventually(lambda: self.has_stored(server, expected))
            await eventually(lambda: self.gaps(server))
        return await self.gaps(server)

    async def gaps(self, server: RealServer) -> dict[str, tuple[int, str]]:
        """Return what operators see of gaps: how many items, and why."""
        (shown,) = await server.ask("GET", "/v1/agents")
        sheet = await server.ask("GET", f"/v1/agents/{shown['id']}")
        return {gap["type"]: (gap["items"], gap["reason"]) for gap in sheet["gaps"]}

    async def has_stored(self, server: RealServer, expected: set[int]) -> bool:
        """Return whether the server has these results, and maybe more."""
        return expected <= await self.stored(server)

    async def stored(self, server: RealServer) -> set[int]:
        """Return the numbers of the results that the server has."""
        found = await server.ask("GET", f"/v1/check-results/{self.check_id}?limit=1000")
        times = (datetime.fromisoformat(result["ran_at"]).timestamp() for result in found)
        return {round(at - START_MS / 1000) for at in times}


async def _beat(due: asyncio.Event) -> None:
    while True:
        due.set()
        await asyncio.sleep(0.05)


async def until_delivered(agent: BuiltAgent) -> None:
    """Wait until nothing waits in the outbox any more."""
    assert agent.courier is not None
    courier = agent.courier

    async def is_delivered() -> bool:
        await courier.look()
        return (courier.report.figures.results, courier.report.figures.batches) == (0, 0)

    await eventually(is_delivered)


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(40):
        while not await condition():  # noqa: ASYNC110 - it is a question to a server
            await asyncio.sleep(0.05)


async def enrolled_agent(server: RealServer, data_dir: Path) -> OurAgent:
    """Enrol ours, and define a check of which its results are."""
    config = config_for(data_dir, f"127.0.0.1:{server.wire.port}")
    await run_once(replace(config, enrolment_token=parse_token(await server.token())))
    (agent,) = await server.ask("GET", "/v1/agents")
    body = {"actor": "test", "type": "port", "config": {"host": "127.0.0.1", "port": 1}, "interval_s": 3600}
    check = await server.ask("POST", f"/v1/agents/{agent['id']}/checks", body)
    return OurAgent(config, str(check["id"]))


async def test_what_was_delivered_since_the_backup_comes_again_and_what_cannot_is_itemised(
    site: Site, tmp_path: Path
) -> None:
    """Ours retains 26 hours: of a backup that is older, what came since comes again but for the first hours."""
    async with site.serving() as server:
        agent = await enrolled_agent(server, tmp_path / "agent")
        await agent.deliver(range(10))
        await site.back_up()
        await agent.deliver(range(10, 17), after_h=2)
        await agent.deliver(range(20, 25), after_h=24.5)
        await agent.deliver(range(25, 30), after_h=2)
        before = await agent.stored(server)
    site.keep_audit_files()
    await site.destroy()
    await site.restore(Choices(forget_revocations=True))
    async with site.serving() as server:
        gaps = await agent.back_at(server, {*range(10), *range(20, 30)})
        lost = before - await agent.stored(server)

    assert set(range(10, 17)) <= lost
    assert (len(lost), "acknowledged, gone on the server") == gaps["check_result"]


async def rotated(server: RealServer) -> str:
    """Have another agent CA sign from now on; return its certificate."""
    for step in ("prepare", "activate"):
        await eventually(lambda: workers_follow(server))
        plan = await server.ask("GET", "/v1/authority/ca/next")
        body = {"actor": "test", "version": plan["version"], "force": True}
        await server.ask("POST", f"/v1/authority/ca/{step}", body)
    await eventually(lambda: workers_follow(server))
    return (await server.wire.register(Host("of-the-new-one"), await server.token())).agent_ca_cert_pem


async def workers_follow(server: RealServer) -> bool:
    return not (await server.ask("GET", "/v1/authority"))["workers_behind"]


async def test_agents_with_a_leaf_of_an_authority_from_after_the_backup_get_back_in(tmp_path: Path) -> None:
    """Ours prove their key; existing ones keep what they have, and are let in when their authority is recognised."""
    site = new_site(tmp_path, "")
    async with site.serving() as server:
        ours = await enrolled_agent(server, tmp_path / "agent")
        existing = await server.enrolled("existing")
        await site.back_up()
        new_authority = await rotated(server)
        existing.leaf_pem = await renewed_leaf(server, existing)
        leaf = ours.config.data_dir / LEAF_NAME
        leaf.write_text(await renewed_leaf(server, host_of(ours)))
    await site.destroy()
    await site.restore(Choices(forget_revocations=True))
    async with site.serving() as server:
        async with ours.running():
            await eventually(lambda: is_online(server, "host-1"))
        meanwhile = await beat(server, existing)
        body = {"actor": "test", "pem": new_authority}
        await server.ask("POST", "/v1/recognised-authorities", body)
        await eventually(lambda: is_let_in(server, existing))
        served = await beat(server, existing)

    assert meanwhile != "ok"
    assert served == "ok"


async def renewed_leaf(server: RealServer, host: Host) -> str:
    """Renew as existing agents do; return the leaf."""
    async with server.wire.connect(host) as stub:
        request = wire.RenewCertificateRequest(csr_der=make_csr(host.key))
        return (await stub.RenewCertificate(request)).client_cert_pem


def host_of(agent: OurAgent) -> Host:
    """Return what another client would be with the key of ours."""
    key = load_pem_private_key((agent.config.data_dir / PRIVATE_KEY_NAME).read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return Host("host-1", key, (agent.config.data_dir / LEAF_NAME).read_text())


async def is_let_in(server: RealServer, host: Host) -> bool:
    """Register as existing agents do again and again; return whether it was welcome."""
    return await register(server, host) == "active"


async def is_online(server: RealServer, hostname: str) -> bool:
    shown = await server.ask("GET", "/v1/agents")
    return any(agent["online"] for agent in shown if agent["hostname"] == hostname)
