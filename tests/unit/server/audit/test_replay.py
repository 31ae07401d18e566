"""What a restored database is told by the files (rule 25)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import START, Link, chained
from ct_ops_server.audit.replay import Departed, continuation, departures
from unit.server.audit.audit_world import NOW_MS, AuditWorld, entries, revocation


def test_revocations_and_deletions_behind_a_number_are_found(world: AuditWorld) -> None:
    """And nothing else."""
    decisions = [
        revocation(1),
        Decision(Action.AGENT_APPROVED, "ada", agent="agent-2"),
        revocation(3),
        Decision(
            Action.AGENT_DELETED,
            "bob",
            agent="agent-4",
            details={"key_id": "k4", "hostname": "h4", "status": "revoked"},
        ),
        Decision(Action.AGENT_DEREGISTERED, "agent:agent-5", agent="agent-5", details={"key_id": "k5"}),
    ]
    world.write(list(chained(decisions, START, at_ms=NOW_MS)))

    found = departures(world.directory, after=1)

    assert [
        (Departed.REVOKED, "agent-3", "key-3"),
        (Departed.DELETED, "agent-4", "k4"),
        (Departed.REVOKED, "agent-5", "k5"),
    ] == [(each.kind, each.agent, each.key_id) for each in found]
    assert ("bob", "revoked", "h4", 4) == (found[1].actor, found[1].status, found[1].hostname, found[1].seq)


def test_no_files_know_of_no_departures(tmp_path: Path) -> None:
    """An empty machine."""
    assert [] == departures(tmp_path / "audit", after=0)
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
    assert 7 == len(departures(world.directory, after=0))
