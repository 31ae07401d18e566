"""What a restored database is told by the files (rule 25)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ct_ops_server.audit.entries import START, Link, chained
from ct_ops_server.audit.replay import continuation, entries_after, furthest_head
from unit.server.audit.audit_world import NOW_MS, AuditWorld, entries, revocation


def test_no_files_know_of_nothing(tmp_path: Path) -> None:
    """An empty machine."""
    assert [] == list(entries_after(tmp_path / "audit", 0))
    assert 0 == furthest_head(tmp_path / "audit")
    assert [] == continuation(tmp_path / "audit", START)


def test_a_restored_database_is_given_what_follows_its_head(world: AuditWorld) -> None:
    """So that its chain goes on instead of branching."""
    chain = entries(6)
    world.write(chain)

    assert chain[3:] == continuation(world.directory, chain[2].link)
    assert [] == continuation(world.directory, chain[5].link)


def test_a_database_of_another_chain_is_given_nothing(world: AuditWorld) -> None:
    """Its head is in no file."""
    world.write(entries(6))

    assert [] == continuation(world.directory, Link(2, b"another hash"))


def test_of_two_branches_the_one_that_went_on_last_is_taken(world: AuditWorld) -> None:
    """The database was rolled back before, and has decided other things since."""
    chain = entries(4)
    world.write(chain)
    branch = chained([replace(revocation(n), actor="eve") for n in (3, 4, 5)], chain[1].link, at_ms=1)
    files = world.open()
    files.begin(chain[1].link, now_ms=NOW_MS)
    files.append(branch, now_ms=NOW_MS)
    files.close()

    assert branch == continuation(world.directory, chain[1].link)
    assert chain[3:] == continuation(world.directory, chain[2].link)
    assert 7 == len(list(entries_after(world.directory, 0)))
