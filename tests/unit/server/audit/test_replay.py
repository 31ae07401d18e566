"""What a restored database is told by the files (rule 25)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ct_ops_server.audit.entries import chained
from ct_ops_server.audit.replay import entries_after, furthest_head
from unit.server.audit.audit_world import NOW_MS, AuditWorld, entries, revocation


def test_no_files_know_of_nothing(tmp_path: Path) -> None:
    """An empty machine."""
    assert [] == list(entries_after(tmp_path / "audit", 0))
    assert 0 == furthest_head(tmp_path / "audit")


def test_every_branch_is_told(world: AuditWorld) -> None:
    """The database was rolled back before, and has decided other things since."""
    chain = entries(4)
    world.write(chain)
    branch = chained([replace(revocation(n), actor="eve") for n in (3, 4, 5)], chain[1].link, at_ms=1)
    files = world.open()
    files.begin(chain[1].link, now_ms=NOW_MS)
    files.append(branch, now_ms=NOW_MS)
    files.close()

    assert [*chain, *branch] == list(entries_after(world.directory, 0))
    assert [*chain[2:], *branch] == list(entries_after(world.directory, 2, installation="installation-1"))
    assert [] == list(entries_after(world.directory, 0, installation="another"))
