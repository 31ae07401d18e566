"""The files follow the database's chain: through outages, kills, full disks and roll-backs."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import Entry
from ct_ops_server.audit.keys import announced
from ct_ops_server.audit.ports import Reach
from ct_ops_server.audit.reading import read_entries
from ct_ops_server.audit.writing import ChainFiles, FileLimits
from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.store.audit import append
from ct_ops_server.store.audit_following import Follower, Place
from ct_ops_server.store.audit_key_announcing import KeyAnnouncer
from ct_ops_server.store.audit_reading import SqlAuditStore
from ct_ops_server.store.audit_recording import Recorder
from ct_ops_server.store.audit_tables import audit_entries, audit_head
from ct_ops_server.store.database import Database
from ct_ops_server.store.opening import Store
from unit.server.audit.audit_world import NOW_MS, AuditWorld, revocation


@dataclass
class Seen:
    """A watcher that remembers."""

    entries: int = 0
    lags: list[int] = field(default_factory=list)
    signatures: int = 0
    is_failing: bool = False
    is_waiting: bool = False
    branches: int = 0
    touches: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)

    def written(self, entries: int) -> None:
        self.entries += entries
        self.more.set()

    async def until(self, entries: int) -> None:
        """Wait until so many were written."""
        async with asyncio.timeout(30):
            while self.entries < entries:
                self.more.clear()
                await self.more.wait()

    def lag(self, entries: int) -> None:
        self.lags.append(entries)

    def signed(self, at_ms: int) -> None:
        assert at_ms
        self.signatures += 1

    def failing(self, *, is_failing: bool) -> None:
        self.is_failing = is_failing

    def waiting(self, *, is_waiting: bool) -> None:
        self.is_waiting = is_waiting

    def branched(self) -> None:
        self.branches += 1

    def touched(self) -> None:
        self.touches += 1


@pytest.fixture
def world(tmp_path: Path) -> AuditWorld:
    """Where the files are."""
    return AuditWorld(tmp_path / "audit")


async def decide(store: Store, *numbers: int) -> None:
    await record(store, *map(revocation, numbers))


async def record(store: Store, *decisions: Decision) -> None:
    async def command(connection: AsyncConnection) -> None:
        await append(connection, decisions)

    await store.writer.run(command)


def follower_of(
    store: Store, world: AuditWorld, seen: Seen, clock: Callable[[], int] | None = None
) -> Follower:
    place = Place(world.directory, world.signer, FileLimits())
    return Follower(store.audit, place, now_ms=clock or (lambda: NOW_MS), watcher=seen, pause_s=0.01)


@asynccontextmanager
async def following(store: Store, world: AuditWorld) -> AsyncIterator[tuple[Follower, Seen]]:
    seen = Seen()
    follower = follower_of(store, world, seen)
    try:
        yield follower, seen
    finally:
        await follower.close()


def agents_in(world: AuditWorld) -> list[str]:
    return [entry.agent for entry in read_entries(world.paths)]


async def test_what_is_committed_gets_into_the_files_and_is_signed(store: Store, world: AuditWorld) -> None:
    """On each database, in the order of the chain."""
    await decide(store, *range(1, 4))
    async with following(store, world) as (follower, seen):
        await follower.make_pass()
        await decide(store, 4)
        await follower.make_pass()

    assert ["agent-1", "agent-2", "agent-3", "agent-4"] == agents_in(world)
    assert [] == world.findings()
    assert 4 == world.report().signed_through
    assert (4, 0, False) == (seen.entries, seen.lags[-1], seen.is_failing)


async def test_after_an_outage_it_goes_on_without_a_gap_or_a_repetition(
    store: Store, world: AuditWorld
) -> None:
    """From what the files say: nothing is remembered but there."""
    for first in (1, 700, 1_400):
        await decide(store, *range(first, first + 699))
        async with following(store, world) as (follower, _):
            await follower.make_pass()

    assert 3 * 699 == len(agents_in(world))
    assert [] == world.findings()


async def test_of_several_processes_one_writes_and_another_takes_over(
    store: Store, world: AuditWorld
) -> None:
    """Exactly one writer a data directory; when it is killed, the lock is free."""
    await decide(store, 1)
    async with following(store, world) as (second, seen_by_second):
        async with following(store, world) as (first, _):
            await first.make_pass()
            await second.make_pass()
            assert 0 == seen_by_second.entries
        await decide(store, 2)
        await second.make_pass()
        assert 1 == seen_by_second.entries

    assert ["agent-1", "agent-2"] == agents_in(world)
    assert [] == world.findings()


async def test_many_followers_of_one_directory_write_each_entry_once(store: Store, world: AuditWorld) -> None:
    """While decisions come in, and whoever holds the folder goes away."""
    seen = Seen()
    followers = [follower_of(store, world, seen) for _ in range(4)]
    runs = [asyncio.create_task(each.run()) for each in followers]
    try:
        for number, run in enumerate(runs):
            await decide(store, 2 * number + 1, 2 * number + 2)
            await seen.until(2 * number + 2)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            await followers[number].close()
    finally:
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        await asyncio.gather(*(each.close() for each in followers))

    assert [f"agent-{number}" for number in range(1, 9)] == agents_in(world)
    assert [] == world.findings()


async def test_a_server_that_stops_while_a_write_is_under_way_repeats_nothing(
    store: Store, world: AuditWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last pass begins when that write has ended, and goes on behind it."""
    begun, may_end = threading.Event(), threading.Event()
    append_now = ChainFiles.append

    def slow(files: ChainFiles, entries: Sequence[Entry], *, now_ms: int) -> None:
        begun.set()
        assert may_end.wait(30)
        append_now(files, entries, now_ms=now_ms)

    monkeypatch.setattr(ChainFiles, "append", slow)
    follower = follower_of(store, world, Seen())
    await decide(store, 1, 2)
    run = asyncio.create_task(follower.run())
    await asyncio.to_thread(begun.wait, 30)
    run.cancel()
    asyncio.get_running_loop().call_later(0.05, may_end.set)
    await asyncio.gather(run, return_exceptions=True)
    await follower.close()

    assert ["agent-1", "agent-2"] == agents_in(world)
    assert [] == world.findings()


async def test_a_full_disk_is_loud_and_costs_nothing_but_time(
    store: Store, world: AuditWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The database goes on; the files catch up when there is room, and one line was logged."""

    def full(*_args: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with following(store, world) as (follower, seen):
        await decide(store, 1)
        await follower.make_pass()
        with monkeypatch.context() as patched:
            patched.setattr(ChainFiles, "append", full)
            await decide(store, 2)
            for _ in range(3):
                await follower.make_pass()
            assert seen.is_failing
        await follower.make_pass()
        assert not seen.is_failing

    assert ["agent-1", "agent-2"] == agents_in(world)
    assert [] == world.findings()
    assert 1 == caplog.text.count("No space left on device")


async def test_a_database_rolled_back_while_the_files_are_ahead_is_told(
    store: Store, world: AuditWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Attack, or a snapshot put back: what the files have stays, what is decided now is written beside it."""
    await decide(store, *range(1, 9))
    async with following(store, world) as (follower, _):
        await follower.make_pass()
    await roll_back(store, to=5)

    async with following(store, world) as (follower, seen):
        await follower.make_pass()
        await decide(store, 60, 61)
        await follower.make_pass()
        await follower.make_pass()
        assert 1 == seen.branches

    ahead, beside = [f"agent-{number}" for number in range(1, 9)], ["agent-60", "agent-61"]
    assert [*ahead, *beside] == agents_in(world)
    assert ["forked 6"] == world.findings()
    assert "rolled back" in caplog.text


async def test_a_database_rolled_back_and_gone_on_beyond_the_files_is_told(
    store: Store, world: AuditWorld
) -> None:
    """Nobody looked while it was behind: the fork is found by the hashes."""
    await decide(store, *range(1, 5))
    async with following(store, world) as (follower, _):
        await follower.make_pass()
    await roll_back(store, to=2)
    await decide(store, *range(10, 16))

    async with following(store, world) as (follower, _):
        await follower.make_pass()

    assert ["forked 3"] == world.findings()
    assert 4 + 6 == len(agents_in(world))


async def test_files_that_were_away_longer_than_the_database_keeps_say_what_is_missing(
    store: Store, world: AuditWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """A gap that cannot be helped is not hidden."""
    await decide(store, 1, 2)
    async with following(store, world) as (follower, _):
        await follower.make_pass()
    await decide(store, 3, 4, 5)
    await forget(store, through=4)

    async with following(store, world) as (follower, _):
        await follower.make_pass()

    assert ["missing 3"] == world.findings()
    assert "what lies between is in neither" in caplog.text


@dataclass
class Away(SqlAuditStore):
    """A database that does not answer for a while."""

    database: Database
    is_away: bool = True

    def __post_init__(self) -> None:
        super().__init__(self.database)

    async def reach(self) -> Reach:
        if self.is_away:
            raise StoreUnavailableError("gone")
        return await super().reach()


async def test_an_outage_of_the_database_is_said_once_and_once_when_it_is_over(
    store: Store, world: AuditWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no failure of the files, and nothing that is decided gets into them: somebody has to know."""
    seen, source = Seen(), Away(store.database)
    place = Place(world.directory, world.signer, FileLimits())
    follower = Follower(source, place, now_ms=lambda: NOW_MS, watcher=seen)

    for _ in range(3):
        await follower.make_pass()
    assert (0, False, True) == (seen.entries, seen.is_failing, seen.is_waiting)
    assert ["ERROR"] == [record.levelname for record in caplog.records]
    assert "cannot be read from the database (gone)" in caplog.text

    source.is_away = False
    for _ in range(2):
        await follower.make_pass()
    source.is_away = True
    await follower.close()
    said = [record.levelname for record in caplog.records if "from the database" in record.message]
    assert ["ERROR", "WARNING", "ERROR"] == said


async def test_a_decision_of_an_operator_is_signed_in_the_pass_that_writes_it(
    store: Store, world: AuditWorld
) -> None:
    """A crash the moment after must not cost it: a restore gives nothing that no head reaches."""
    routine = Decision(Action.LEAF_RENEWED, "agent:1")
    async with following(store, world) as (follower, seen):
        await decide(store, 1)
        await follower.make_pass()
        for decisions in ([routine], [revocation(2), routine], [routine]):
            await record(store, *decisions)
            await follower.make_pass()
        assert 4 == world.report().signed_through
        assert 5 == world.report().last.seq
        assert 2 == seen.signatures


async def test_the_key_that_signs_is_announced_once_in_the_chain(store: Store, world: AuditWorld) -> None:
    """By the writer of the files: so a backup of any node knows the keys of all."""
    other = AuditWorld(world.directory.with_name("other"))

    async def follow(node: AuditWorld) -> None:
        announcer = KeyAnnouncer(store.audit, Recorder(store.writer).record, node.private.public_key())
        place = Place(node.directory, node.signer, FileLimits())
        follower = Follower(store.audit, place, now_ms=lambda: NOW_MS, announce=announcer)
        await follower.make_pass()
        await follower.close()

    for node in (world, other, world):
        await follow(node)
    keys = announced(read_entries(world.paths))

    assert [world.signer.key, other.signer.key] == list(keys)
    assert 2 == len(list(read_entries(world.paths)))


async def roll_back(store: Store, *, to: int) -> None:
    """Do to the chain what an older copy of the database is."""

    async def command(connection: AsyncConnection) -> None:
        found = sa.select(audit_entries.c.hash).where(audit_entries.c.seq == to)
        last = await connection.scalar(found)
        await connection.execute(audit_entries.delete().where(audit_entries.c.seq > to))
        await connection.execute(audit_head.update().values(seq=to, hash=last))

    await store.writer.run(command)


async def forget(store: Store, *, through: int) -> None:
    """Do what time does to old entries."""

    async def command(connection: AsyncConnection) -> None:
        found = sa.select(audit_entries.c.hash).where(audit_entries.c.seq == through)
        last = await connection.scalar(found)
        await connection.execute(audit_entries.delete().where(audit_entries.c.seq <= through))
        await connection.execute(audit_head.update().values(anchor_seq=through, anchor_hash=last))

    await store.writer.run(command)
