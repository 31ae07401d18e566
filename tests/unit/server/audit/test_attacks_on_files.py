"""What somebody does to audit files who has no key: what ``verify`` is to find, and what a writer is to survive."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_server.audit.entries import START, Link, chained
from ct_ops_server.audit.examination import examine
from ct_ops_server.audit.keys import announcement
from ct_ops_server.audit.lines import LineError, line_of, parse_line
from ct_ops_server.audit.reading import heads_in, read_all, read_entries
from ct_ops_server.audit.writing import FileLimits
from unit.server.audit.audit_world import NOW_MS, AuditWorld, entries, revocation

DAY_MS = 86_400_000


def test_attack_a_genuine_head_behind_a_later_entry_vouches_for_nothing(world: AuditWorld) -> None:
    """Everything from entry 3 on is made anew, one more is added, and the old head put behind that one."""
    chain = entries(5)
    world.write(chain)
    lines = world.lines()
    decisions = [replace(revocation(number), actor="eve") for number in (3, 4, 5, 6)]
    forged = chained(decisions, chain[1].link, at_ms=NOW_MS)
    world.rewrite([*lines[:3], *map(line_of, forged), lines[-1]])

    report = world.report()

    assert ["moved head 5"] == world.findings()
    assert (0, 0) == (report.heads, report.signed_through)


def test_attack_a_head_that_does_not_fit_signs_nothing(world: AuditWorld) -> None:
    """What it names was written anew: the report does not say "signed through" it."""
    chain = entries(3)
    world.write(chain)
    lines = world.lines()
    forged = chained([replace(revocation(3), actor="eve")], chain[1].link, at_ms=NOW_MS)
    world.rewrite([*lines[:3], *map(line_of, forged), lines[-1]])

    assert ["rewritten 3"] == world.findings()
    assert 0 == world.report().signed_through


def test_a_kept_head_of_one_of_two_branches_fits(world: AuditWorld) -> None:
    """It is a fork, and no rewriting beside it: the head of either branch is found again."""
    chain = entries(4)
    world.write(chain)
    kept = [*heads_in(world.directory / "head.json")]
    files = world.open()
    files.begin(chain[2].link, now_ms=NOW_MS)
    files.append(chained([replace(revocation(4), actor="eve")], chain[2].link, at_ms=1), now_ms=NOW_MS)
    files.sign(now_ms=NOW_MS)
    files.close()
    kept += heads_in(world.directory / "head.json")

    report = examine(read_all(world.paths), keys=[world.private.public_key()], kept=kept)

    assert ["forked"] == [each.fault for each in report.breaks]


def test_a_key_that_was_replaced_verifies_what_it_signed(world: AuditWorld) -> None:
    """The key was lost: with both public halves the whole log is signed."""
    world.write(entries(2))
    after = AuditWorld(world.directory, Ed25519PrivateKey.generate())
    after.write(entries(2, after=entries(2)[-1].link))
    keys = [world.private.public_key(), after.private.public_key()]

    report = examine(read_all(world.paths), keys=keys)

    assert ([], 2, 4) == (report.breaks, report.heads, report.signed_through)


@pytest.mark.parametrize(
    "number", ["Infinity", "-Infinity", "NaN", "1e400", "1.0", "-0", "true", '"1"', "9" * 5_000]
)
@pytest.mark.parametrize("kind", ["entry", "head", "anchor"])
def test_attack_a_number_that_is_none_is_no_line_of_ours(kind: str, number: str) -> None:
    """Reading goes on behind it; nothing of it ends the program."""
    link = {"seq": 7, "hash": "00" * 32, "at_ms": 7}
    texts = dict.fromkeys(("action", "actor", "agent", "token", "subject", "installation", "key"), "x")
    line = json.dumps(
        {kind: {**link, **texts, "details": {}}, "hash": "00", "signature": "00", "installation": "x"}
    )

    with pytest.raises(LineError):
        parse_line(line.replace("7", number).encode())


def test_attack_a_file_of_a_million_empty_lines_is_one_finding(world: AuditWorld) -> None:
    """Whoever verifies is not buried either."""
    world.write(entries(2))
    path = world.paths[0]
    path.write_bytes(path.read_bytes() + b"\n" * 10_000)

    assert ["unreadable 2"] == world.findings()


def test_a_torn_line_that_is_not_the_last_of_all_is_a_finding(world: AuditWorld) -> None:
    """At the very end somebody may be writing; before another file nobody is."""
    world.write(entries(2))
    path = world.paths[0]
    path.write_bytes(path.read_bytes() + b'{"entry":{"act')
    assert [] == world.findings()
    assert f"{path.name}:5" == world.report().torn

    other = world.directory / "audit-00000002.jsonl"
    other.write_bytes(path.read_bytes().splitlines(keepends=True)[0].replace(b'"seq":0', b'"seq":2'))

    assert "unreadable 2" in world.findings()


def test_a_power_cut_that_left_later_lines_without_earlier_ones_loses_nothing(world: AuditWorld) -> None:
    """The file system wrote the second half of a batch and not the first: all of it is written again."""
    chain = entries(9)
    world.write(chain[:4])
    path = world.paths[0]
    before = path.stat().st_size
    batch = b"".join(map(line_of, chain[4:]))
    path.write_bytes(
        path.read_bytes() + bytes(len(line_of(chain[4])) + 30) + batch[len(line_of(chain[4])) + 30 :]
    )

    files = world.open()
    torn, reached = files.torn_bytes, files.reached
    files.append(chain[4:], now_ms=NOW_MS)
    files.close()

    assert (chain[3].link, len(batch)) == (reached, torn)
    assert before + len(batch) == path.stat().st_size
    assert [] == world.findings()


@pytest.mark.parametrize("garbage", [bytes(5_000), b"\xff" * 100, bytes(300) + b"\n", b"{}\n{}\n"])
def test_a_power_cut_that_left_zeros_or_garbage_loses_nothing(world: AuditWorld, garbage: bytes) -> None:
    """Whole lines of it too: they are not there for ever."""
    chain = entries(5)
    world.write(chain[:3], sign=False)
    path = world.paths[0]
    path.write_bytes(path.read_bytes() + garbage)

    world.write(chain[3:])

    assert [] == world.findings()
    assert chain == list(read_entries(world.paths))


def test_what_is_behind_thousands_of_entries_without_a_head_is_found(world: AuditWorld) -> None:
    """The writer was away for long, and was killed while it caught up."""
    chain = entries(1_500)
    world.write(chain, sign=False)
    path = world.paths[0]
    path.write_bytes(path.read_bytes()[:-10])

    files = world.open()
    files.close()

    assert chain[-2].link == files.reached


def test_attack_a_file_made_unreadable_is_kept_and_said(world: AuditWorld) -> None:
    """It is evidence: nobody removes it, and nothing is written behind it."""
    world.write(entries(2))
    path = world.paths[0]
    path.write_bytes(b"encrypted\nby somebody\n")

    with pytest.raises(OSError, match="keep it elsewhere and remove it"):
        world.open()

    assert b"encrypted\nby somebody\n" == path.read_bytes()


@pytest.mark.parametrize("harm", ["removed", "cut", "exchanged", "written to"])
def test_attack_the_file_that_is_written_is_touched(world: AuditWorld, harm: str) -> None:
    """The writer notices, before it writes to what nobody reads."""
    chain = entries(2)
    files = world.open()
    files.begin(START, now_ms=NOW_MS)
    files.append(chain, now_ms=NOW_MS)
    assert not files.was_touched()
    path = world.paths[0]
    content = path.read_bytes()
    if harm == "cut":
        os.truncate(path, 10)
    elif harm == "written to":
        path.write_bytes(content + b"x")
    else:
        path.unlink()
        if harm == "exchanged":
            path.write_bytes(content)

    assert files.was_touched()
    files.close()


def test_attack_a_link_planted_for_the_head_writes_nothing_elsewhere(
    world: AuditWorld, tmp_path: Path
) -> None:
    """It is replaced, and what it points to is left alone."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    world.directory.mkdir()
    (world.directory / ".head.json.new").symlink_to(victim)
    (world.directory / "head.json").symlink_to(victim)

    world.write(entries(1))

    assert "mine" == victim.read_text()
    assert not (world.directory / "head.json").is_symlink()


def test_a_link_planted_for_the_next_file_is_not_followed(world: AuditWorld, tmp_path: Path) -> None:
    """The server says so rather than writing to somebody else's file."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    world.write(entries(1))
    (world.directory / "audit-00000002.jsonl").symlink_to(victim)

    with pytest.raises(OSError, match="symbolic links"):
        world.open()
    assert b"mine" == victim.read_bytes()


def test_a_head_that_cannot_be_put_beside_the_files_is_signed_once(world: AuditWorld) -> None:
    """However often it is tried: the file does not grow by a line a second."""
    chain = entries(1)
    world.write(chain, sign=False)
    (world.directory / "head.json").mkdir()
    for _ in range(3):
        files = world.open()
        with pytest.raises(IsADirectoryError):
            files.sign(now_ms=NOW_MS)
        files.close()
    assert 1 == world.report().heads

    (world.directory / "head.json").rmdir()
    world.write(entries(1, after=chain[-1].link))

    assert [] == world.findings()
    assert 2 == heads_in(world.directory / "head.json")[0].head.link.seq


def test_a_clock_that_jumps_by_decades_costs_few_files(world: AuditWorld) -> None:
    """Files are removed two at a time: what was kept for years is still there when the clock is put right."""
    limits = FileLimits(bytes=1, keep=timedelta(days=3650))
    files = world.open(limits)
    files.begin(START, now_ms=NOW_MS)
    chain = entries(9)
    for entry in chain[:8]:
        files.append([entry], now_ms=NOW_MS)
    files.append(chain[8:], now_ms=NOW_MS + 20 * 365 * DAY_MS)
    files.close()

    assert "audit-00000003.jsonl" == world.paths[0].name
    assert [] == world.findings()


def test_a_disk_full_between_the_file_and_the_head_beside_it_says_the_older_one(
    world: AuditWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A monitor that fetches it never gets half a head."""
    world.write(entries(1))
    older = heads_in(world.directory / "head.json")
    files = world.open()
    files.append(entries(1, after=entries(1)[-1].link), now_ms=NOW_MS)

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ct_ops_server.audit.writing.line_of", full)
    with pytest.raises(OSError, match="No space"):
        files.sign(now_ms=NOW_MS)
    files.close()

    assert older == heads_in(world.directory / "head.json")


def announced_by(world: AuditWorld, after: Link) -> AuditWorld:
    """Let another key sign from an entry on that announces it."""
    other = AuditWorld(world.directory)
    other.write(chained([announcement(other.private.public_key())], after, at_ms=NOW_MS))
    return other


def test_a_lost_key_is_shown_as_a_change_that_the_old_one_did_not_sign(world: AuditWorld) -> None:
    """Nothing is broken by it: whether it was an outage or an attack, only who runs the server knows."""
    world.write(entries(2))
    other = announced_by(world, entries(2)[-1].link)
    keys = [world.private.public_key(), other.private.public_key()]
    report = examine(read_all(world.paths), keys=keys)

    assert [(3, other.signer.key)] == [(each.seq, each.key) for each in report.key_changes]
    assert ([], 3) == (report.breaks, report.signed_through)
    assert ["forged head 3"] == world.findings()


def test_a_key_that_the_old_one_signed_for_is_no_change_to_look_at(world: AuditWorld) -> None:
    """Of another node, for one: each of several has a key, and all sign one chain."""
    world.write(entries(2))
    node = AuditWorld(world.directory)
    (announcing,) = chained([announcement(node.private.public_key())], entries(2)[-1].link, at_ms=NOW_MS)
    world.write([announcing])

    assert [] == world.report().key_changes
    assert [] == world.report().breaks
