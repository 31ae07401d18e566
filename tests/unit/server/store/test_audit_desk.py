"""Reading the chain, taking it away page by page, and forgetting its oldest part: it verifies at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit import desk as desk_module
from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.desk import AuditDesk
from ct_ops_server.audit.entries import Link
from ct_ops_server.audit.examination import Report, examine
from ct_ops_server.audit.heads import key_name
from ct_ops_server.audit.ports import Wanted
from ct_ops_server.audit.reading import parse_text
from ct_ops_server.audit.writing import Signer
from ct_ops_server.edge.admin_audit import NoteRequest
from ct_ops_server.store.audit import append
from ct_ops_server.store.audit_pruning import AuditPruning
from ct_ops_server.store.audit_recording import Recorder
from ct_ops_server.store.audit_tables import audit_entries
from ct_ops_server.store.opening import Store
from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.upkeep import Upkeep
from unit.server.audit.audit_world import NOW_MS, revocation

KEY = Ed25519PrivateKey.generate()


async def decide(store: Store, *decisions: Decision) -> None:
    async def command(connection: AsyncConnection) -> None:
        await append(connection, decisions)

    await store.writer.run(command)


async def make_older(store: Store, *, through: int, by: timedelta) -> None:
    """Turn back what the database's clock said: no test can turn that clock."""

    async def command(connection: AsyncConnection) -> None:
        older = audit_entries.c.at - by // timedelta(milliseconds=1)
        await connection.execute(
            audit_entries.update().where(audit_entries.c.seq <= through).values(at=older)
        )

    await store.writer.run(command)


def desk_of(store: Store) -> AuditDesk:
    signer = Signer("installation-1", key_name(KEY.public_key()), KEY.sign)
    return AuditDesk(
        store.audit, Recorder(store.writer).record, signer, public_pem=b"", now_ms=lambda: NOW_MS
    )


async def exported(store: Store, *, since_ms: int | None = None, until_ms: int | None = None) -> bytes:
    desk, after, text = desk_of(store), None, b""
    while True:
        page = await desk.export(after=after, since_ms=since_ms, until_ms=until_ms)
        text, after = text + page.lines, page.last
        if after is None:
            return text


def examined(text: bytes) -> Report:
    return examine(parse_text(text, "export"), keys=[KEY.public_key()])


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
async def test_an_export_of_several_pages_is_one_chain_with_a_signed_end(
    store: Store, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of none, of one page exactly, and of a part of one."""
    monkeypatch.setattr(desk_module, "PAGE", 3)
    if count:
        await decide(store, *map(revocation, range(1, count + 1)))

    report = examined(await exported(store))

    assert [] == report.breaks
    assert (count, 1, count) == (report.entries, report.heads, report.signed_through)


async def test_an_export_of_a_time_hangs_on_what_was_before_it(store: Store) -> None:
    """It verifies alone; what was before and after is not in it."""
    await decide(store, *map(revocation, range(1, 8)))
    await make_older(store, through=5, by=timedelta(days=1))
    await make_older(store, through=2, by=timedelta(days=1))
    async with store.database.reading() as connection:
        now = await connection.scalar(now_ms().select())
    assert now is not None
    day = 86_400_000

    text = await exported(store, since_ms=now - day - day // 2, until_ms=now - day // 2)
    lines = [found.record for found in parse_text(text, "export")]

    assert 1 + 3 + 1 == len(lines)
    assert b'"seq":3' in text
    assert b'"agent-6"' not in text
    assert 0 == examined(await exported(store, since_ms=now + day)).entries
    assert 0 == examined(await exported(store, until_ms=now - 9 * day)).entries


@dataclass
class Pruner:
    """Prunes with a clock that the test holds; all that is decided counts as signed, but what ``signed`` says."""

    store: Store
    keep: timedelta = timedelta(days=30)
    now_s: float = 0.0
    signed_through: int | None = None
    removed: list[int] = field(default_factory=list)
    pruning: AuditPruning = field(init=False)
    upkeep: Upkeep = field(init=False)
    signed: Link | None = None

    def __post_init__(self) -> None:
        self.upkeep = Upkeep(self.store.database, self.store.writer)
        self.pruning = AuditPruning(
            self.upkeep,
            keep=self.keep,
            rows=3,
            signed=lambda: self.signed,
            removed=lambda _table, rows: self.removed.append(rows),
            clock=lambda: self.now_s,
        )

    async def make_pass(self, *, hours: float = 0) -> int:
        """Let hours pass, prune, and return how many entries went."""
        self.now_s += hours * 3600
        reach = await self.store.audit.reach()
        self.signed = reach.head
        if self.signed_through is not None:
            self.signed = await self.store.audit.link_at(self.signed_through)
        before = sum(self.removed)
        async with self.upkeep.alone():
            await self.pruning.make_pass()
        return sum(self.removed) - before


async def test_entries_past_keeping_go_and_the_rest_verifies(store: Store) -> None:
    """From the oldest on, in steps, and never one out of the middle."""
    await decide(store, *map(revocation, range(1, 11)))
    assert 0 == await Pruner(store).make_pass()
    await decide(store, revocation(11))
    assert 11 == await Pruner(store, keep=timedelta(milliseconds=-60_000)).make_pass()

    reach = await store.audit.reach()
    assert reach.anchor == reach.head
    await decide(store, revocation(12))
    report = examined(await exported(store))
    assert ([], 1, 12) == (report.breaks, report.entries, report.last.seq)


async def test_what_is_not_signed_in_the_files_is_not_forgotten(store: Store) -> None:
    """A full disk stops the files, or they are of another history: then the database has the only copy."""
    await decide(store, *map(revocation, range(1, 8)))
    pruner = Pruner(store, keep=timedelta(milliseconds=-60_000), signed_through=4)
    assert 4 == await pruner.make_pass()
    pruner.signed_through = 99
    assert 0 == await pruner.make_pass()
    pruner.signed = Link(6, b"another")
    async with pruner.upkeep.alone():
        await pruner.pruning.make_pass()

    assert 4 == (await store.audit.reach()).anchor.seq


async def test_outage_a_database_clock_years_ahead_costs_a_month_of_entries_a_day_at_most(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing at all for a week after it jumped: somebody has the time to see it."""
    await decide(store, *map(revocation, range(1, 41)))
    for through in range(40, 0, -1):  # one entry every ten days
        await make_older(store, through=through, by=timedelta(days=10))
    pruner = Pruner(store, keep=timedelta(days=60))
    assert 0 < await pruner.make_pass() <= 4
    assert 0 == await pruner.make_pass(hours=23)
    assert 0 < await pruner.make_pass(hours=24) <= 4

    for through in (40, 40):  # to the database it is ten years later, at once
        await make_older(store, through=through, by=timedelta(days=1825))
    ahead = Pruner(store, keep=timedelta(days=60))
    assert 0 == await ahead.make_pass()
    assert 0 == await ahead.make_pass(hours=6 * 24)
    assert 1 == sum("the database's clock is ahead" in record.message for record in caplog.records)
    assert 0 < await ahead.make_pass(hours=2 * 24) <= 4


async def test_entries_are_found_by_agent_token_kind_and_actor(store: Store) -> None:
    """By the beginning of an id, which is taken as it is."""
    await decide(
        store,
        revocation(1),
        revocation(12),
        Decision(Action.AGENT_APPROVED, "bob", agent="agent-1"),
        Decision(Action.TOKEN_MADE, "bob", token="t-1"),
    )

    async def found(**wanted: str) -> list[int]:
        listed = await store.audit.list_entries(Wanted(**wanted), limit=10)  # type: ignore[arg-type]
        return [entry.seq for entry in listed]

    assert [4, 3, 2, 1] == await found()
    assert [3, 2, 1] == await found(agent="agent-1")
    assert [2] == await found(agent="agent-12")
    assert [] == await found(agent="agent%")
    assert [4] == await found(token="t-")
    assert [3, 2, 1] == await found(action="agent")
    assert [3] == await found(action="agent.approved")
    assert [4, 3] == await found(actor="bob")


@pytest.mark.parametrize("action", sorted(set(Action) - desk_module.NOTED))
def test_a_command_cannot_tell_what_is_recorded_where_it_is_decided(action: Action) -> None:
    """Attack: whoever may open the socket writes a revocation into the log that never was."""
    with pytest.raises(ValueError, match="recorded where it is decided"):
        NoteRequest(actor="eve", action=action).decision()


async def test_what_a_command_tells_is_recorded(store: Store) -> None:
    """With the file's name."""
    note = NoteRequest(actor="ada", action=Action.RELEASE_PUT, subject="a.tar.xz", details={"bytes": 7})
    await desk_of(store).record(note.decision())

    (entry,) = await desk_of(store).list(Wanted(), limit=5)
    assert ("release.put", "ada", "a.tar.xz", {"bytes": 7}) == (
        entry.action,
        entry.actor,
        entry.subject,
        entry.details,
    )
