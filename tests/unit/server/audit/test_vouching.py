"""How far heads vouch for what files tell a restored database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import START, Entry, Link, chained
from ct_ops_server.audit.heads import Head, key_name, sign_head
from ct_ops_server.audit.keys import announced, announcement, unvouched
from ct_ops_server.audit.lines import line_of
from ct_ops_server.audit.vouching import Vouched, vouched_chain
from unit.server.audit.audit_world import NOW_MS, AuditWorld, entries, revocation


def vouched(world: AuditWorld, after: Link = START, *, installation: str | None = None) -> Vouched:
    keys = [world.private.public_key()]
    return vouched_chain(world.directory, after, keys=keys, installation=installation)


def more(*decisions: Decision, after: Link) -> Sequence[Entry]:
    return chained(decisions, after, at_ms=NOW_MS)


def branched(world: AuditWorld, anchor: Link, chain: Sequence[Entry], *, sign: bool = True) -> None:
    files = world.open()
    files.begin(anchor, now_ms=NOW_MS)
    files.append(chain, now_ms=NOW_MS)
    if sign:
        files.sign(now_ms=NOW_MS)
    files.close()


def test_no_files_vouch_for_nothing(tmp_path: Path) -> None:
    """An empty machine."""
    found = vouched_chain(tmp_path / "audit", Link(7, b"x" * 32), keys=[])

    assert (7, ()) == (found.through, tuple(found.chain))


def test_a_restored_database_is_given_what_follows_its_head(world: AuditWorld) -> None:
    """So that its chain goes on instead of branching."""
    chain = entries(6)
    world.write(chain)

    assert (6, chain[3:]) == (vouched(world, chain[2].link).through, vouched(world, chain[2].link).chain)
    assert [] == vouched(world, chain[5].link).chain


def test_a_database_of_another_chain_is_given_nothing(world: AuditWorld) -> None:
    """Its head is in no file."""
    world.write(entries(6))

    assert [] == vouched(world, Link(2, b"another hash")).chain


def test_a_crash_leaves_a_tail_that_nobody_vouches_for(world: AuditWorld) -> None:
    """It is told all the same: what of it is believed is not decided here."""
    chain = entries(6)
    world.write(chain[:4])
    world.write(chain[4:], sign=False)
    found = vouched(world, chain[1].link)

    assert (4, chain[2:]) == (found.through, found.chain)
    assert [True, True, False, False] == [found.vouches_for(entry) for entry in found.chain]


def test_attack_a_longer_branch_that_nobody_signed_is_not_taken(world: AuditWorld) -> None:
    """Whoever can write to the folder writes a history beside the true one, and a longer one."""
    chain = entries(4)
    world.write(chain)
    forged = more(*[replace(revocation(n), actor="eve") for n in range(3, 9)], after=chain[1].link)
    branched(world, chain[1].link, forged, sign=False)

    assert (4, chain[2:]) == (vouched(world, chain[1].link).through, vouched(world, chain[1].link).chain)


def test_of_two_signed_branches_the_one_that_went_on_longest_is_taken(world: AuditWorld) -> None:
    """The database was rolled back before, and has decided other things since."""
    chain = entries(4)
    world.write(chain)
    branch = more(*[replace(revocation(n), actor="eve") for n in (3, 4, 5)], after=chain[1].link)
    branched(world, chain[1].link, branch)

    assert branch == vouched(world, chain[1].link).chain
    assert chain[3:] == vouched(world, chain[2].link).chain


def test_attack_heads_of_a_key_that_nobody_knows_vouch_for_nothing(world: AuditWorld) -> None:
    """Nor one that calls itself by the name of the true key, or is of another installation."""
    world.write(entries(2))
    last = entries(3)[2]
    evil = Ed25519PrivateKey.generate()
    true_name = key_name(world.private.public_key())
    for name, of in ((key_name(evil.public_key()), "installation-1"), (true_name, "installation-1")):
        forged = sign_head(Head(last.link, NOW_MS, of, name), evil.sign)
        world.rewrite([*world.lines(), line_of(last), line_of(forged)])
    foreign = sign_head(Head(last.link, NOW_MS, "another", true_name), world.private.sign)
    world.rewrite([*world.lines(), line_of(foreign)])
    found = vouched(world, installation="installation-1")

    assert (2, [key_name(evil.public_key())]) == (found.through, [*found.strangers])
    assert 3 == vouched(world).through


def test_the_head_beside_the_files_vouches_too(world: AuditWorld) -> None:
    """It may be the only one that was copied."""
    world.write(entries(3))
    world.rewrite(world.lines()[:-1])

    assert 3 == vouched(world).through


def test_a_key_that_was_followed_by_another_is_followed(world: AuditWorld) -> None:
    """The old key signed behind the entry that announces the new one."""
    after = Ed25519PrivateKey.generate()
    announcing = more(announcement(after.public_key()), after=entries(2)[-1].link)
    world.write([*entries(2), *announcing])
    later = AuditWorld(world.directory, after)
    later.write(entries(2, after=announcing[-1].link))

    assert 5 == vouched(world).through
    assert frozenset() == vouched(world).strangers


def test_attack_a_key_that_announces_itself_is_not_followed(world: AuditWorld) -> None:
    """Its own head stands behind its own announcement, and no other."""
    evil = Ed25519PrivateKey.generate()
    world.write(entries(2))
    announcing = more(announcement(evil.public_key()), after=entries(2)[-1].link)
    AuditWorld(world.directory, evil).write(announcing)

    assert 2 == vouched(world).through


def test_what_an_earlier_restore_doubted_stays_doubted(world: AuditWorld) -> None:
    """Attack: heads of the server that was restored stand behind what was forged before, and a second restore believes it."""
    evil = Ed25519PrivateKey.generate()
    forged = more(revocation(1), announcement(evil.public_key()), after=START)
    restored = more(Decision(Action.DATABASE_RESTORED, "ada", details=unvouched(1, 2)), after=forged[-1].link)
    world.write([*forged, *restored])
    found = vouched(world)

    assert 3 == found.through
    assert [False, False, True] == [found.vouches_for(entry) for entry in found.chain]
    assert {} == announced([*forged, *restored])


def test_attack_a_forged_restore_that_doubts_everything_is_doubted_itself(world: AuditWorld) -> None:
    """Else the keys of the other nodes would be strangers to every backup from then on."""
    key = world.private.public_key()
    known = more(announcement(key), after=START)
    forged = more(Decision(Action.DATABASE_RESTORED, "eve", details=unvouched(1, 9)), after=known[-1].link)
    restored = more(Decision(Action.DATABASE_RESTORED, "ada", details=unvouched(2, 2)), after=forged[-1].link)

    assert [key_name(key)] == list(announced([*known, *forged, *restored]))
    assert [key_name(key)] == list(announced([*restored, *forged, *known]))
    assert {} == announced([*known, *forged])
