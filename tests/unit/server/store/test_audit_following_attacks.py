"""The files while somebody works against them: a changed database, files taken away, a clock set back."""

from __future__ import annotations

import asyncio
import errno
import logging

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit.entries import Link
from ct_ops_server.audit.ports import Wanted
from ct_ops_server.audit.writing import ChainFiles
from ct_ops_server.store.audit_tables import audit_entries
from ct_ops_server.store.opening import Store
from unit.server.audit.audit_world import NOW_MS, AuditWorld
from unit.server.store.test_audit_following import (
    Seen,
    agents_in,
    decide,
    follower_of,
    following,
    world,
)

__all__ = ["world"]


@pytest.mark.parametrize("harm", ["changed", "missing"])
async def test_attack_an_entry_harmed_in_the_database_before_it_is_written_is_shown(
    store: Store, world: AuditWorld, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    """It is written as it is found, once, and said: not a new file for ever, until the disk is full."""
    await decide(store, 1, 2)
    async with following(store, world) as (follower, _):
        await follower.make_pass()
    await decide(store, 3, 4, 5)
    await execute(store, harming(harm))

    async with following(store, world) as (follower, seen), asyncio.timeout(30):
        await follower.make_pass()
        await follower.make_pass()

    assert 0 == seen.branches
    assert [f"{harm} 3"] == world.findings()
    assert 1 == len(world.paths)
    assert 1 == caplog.text.count("entry 3" if harm == "changed" else "entry 4")


@pytest.mark.parametrize(
    "details", ["no JSON", "[]", '{"n":NaN}', '{"n":1e999}', '{"n":1.5}', "[" * 9_999, '{"a":{"b":[null]}}']
)
async def test_attack_details_that_are_none_stop_neither_the_server_nor_a_reader(
    store: Store, world: AuditWorld, details: str
) -> None:
    """What writes the files goes on, and the entry is shown as one that was changed."""
    await decide(store, 1, 2, 3)
    await execute(store, audit_entries.update().where(audit_entries.c.seq == 2).values(details=details))

    async with following(store, world) as (follower, _):
        await follower.make_pass()

    assert ["changed 2"] == world.findings()
    assert 3 == len(await store.audit.list_entries(Wanted(), limit=9))


async def test_a_process_that_failed_shows_nothing_more_when_another_one_writes(
    store: Store, world: AuditWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alarm of a disk that was full for a minute does not last until that process ends."""

    def full(*_args: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    await decide(store, 1)
    async with following(store, world) as (first, seen), following(store, world) as (second, _):
        with monkeypatch.context() as patched:
            patched.setattr(ChainFiles, "append", full)
            await first.make_pass()
        assert seen.is_failing
        await second.make_pass()
        await first.make_pass()
        assert (False, 0) == (seen.is_failing, seen.lags[-1])

    assert [] == world.findings()


async def test_a_failure_that_lasts_is_said_again_after_an_hour(
    store: Store, world: AuditWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """One line would be gone from the journal before anybody looks; so is one a second from view."""
    now = [NOW_MS]
    world.directory.write_text("a file")
    follower = follower_of(store, world, Seen(), lambda: now[0])
    for _ in range(3):
        await follower.make_pass()
    assert 1 == caplog.text.count("cannot be written to")
    now[0] += 3_600_000
    await follower.make_pass()
    assert 2 == caplog.text.count("cannot be written to")

    world.directory.unlink()
    with caplog.at_level(logging.INFO):
        await follower.close()
    assert "is written to" in caplog.text


def harming(harm: str) -> sa.sql.dml.UpdateBase:
    third = audit_entries.c.seq == 3
    if harm == "missing":
        return audit_entries.delete().where(third)
    return audit_entries.update().where(third).values(actor="eve")


@pytest.mark.parametrize("harm", ["folder", "file", "cut"])
async def test_attack_files_taken_away_under_the_writer_are_written_again(
    store: Store, world: AuditWorld, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    """Not into a file that nobody can read any more: the next pass goes on from what is there."""
    await decide(store, 1, 2)
    async with following(store, world) as (follower, seen):
        await follower.make_pass()
        take_away(world, harm)
        await decide(store, 3)
        await follower.make_pass()
        assert 1 == seen.touches
        assert 3 == world.report().signed_through

    assert ["agent-1", "agent-2", "agent-3"] == agents_in(world)
    assert [] == world.findings()
    assert "somebody removed, cut or wrote to" in caplog.text


def take_away(world: AuditWorld, harm: str) -> None:
    if harm == "folder":
        world.directory.rename(world.directory.with_name("elsewhere"))
    elif harm == "file":
        world.paths[0].unlink()
    else:
        world.rewrite([])


async def test_a_clock_that_was_set_back_by_years_does_not_stop_signing(
    store: Store, world: AuditWorld
) -> None:
    """What is decided after it is signed within the minute, too."""
    now = [NOW_MS]
    seen = Seen()
    follower = follower_of(store, world, seen, lambda: now[0])
    try:
        await decide(store, 1)
        await follower.make_pass()
        now[0] -= 10 * 365 * 86_400_000
        await decide(store, 2)
        await follower.make_pass()
        assert 2 == seen.signatures
    finally:
        await follower.close()

    assert [] == world.findings()


async def test_an_entry_that_was_pruned_as_it_was_looked_for_is_no_roll_back(
    store: Store, world: AuditWorld
) -> None:
    """The anchor is a place of the chain as well as an entry is."""
    await decide(store, 1, 2)
    async with following(store, world) as (follower, seen):
        await follower.make_pass()
        await execute(store, audit_entries.delete().where(audit_entries.c.seq <= 2))
        last = await anchor_at_the_end(store)
        await decide(store, 3)
        await follower.make_pass()
        assert (0, 3) == (seen.branches, last.seq + 1)

    assert [] == world.findings()


async def anchor_at_the_end(store: Store) -> Link:
    """Do what pruning does when everything is past keeping."""
    head = (await store.audit.reach()).head
    await execute(store, sa.text(f"UPDATE audit_head SET anchor_seq = {head.seq}, anchor_hash = hash"))
    return head


async def execute(store: Store, statement: sa.Executable) -> None:
    async def command(connection: AsyncConnection) -> None:
        await connection.execute(statement)

    await store.writer.run(command)
