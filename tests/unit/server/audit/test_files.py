"""The chain in files: what attacks on them show, and what a crash or a full disk leaves."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_server.audit.entries import START, chained
from ct_ops_server.audit.examination import examine
from ct_ops_server.audit.lines import LineError, line_of, parse_line
from ct_ops_server.audit.reading import audit_files, hash_at, read_all, read_entries
from ct_ops_server.audit.writing import ChainFiles, FileLimits, only_writer
from unit.server.audit.audit_world import NOW_MS, AuditWorld, entries, revocation

DAY_MS = 86_400_000


def test_files_as_they_were_written_are_whole(world: AuditWorld) -> None:
    """Also when they were written in several runs."""
    chain = entries(6)
    world.write(chain[:4])
    world.write(chain[4:])

    report = world.report()

    assert [] == report.breaks
    assert (6, 2, 6) == (report.entries, report.heads, report.signed_through)
    assert chain == list(read_entries(world.paths))


def test_an_entry_changed_in_the_file_is_named_with_its_line(world: AuditWorld) -> None:
    """Attack: another actor is written into an entry."""
    world.write(entries(5))
    world.rewrite(
        [line.replace(b'"ada"', b'"eve"') if b"agent-3" in line else line for line in world.lines()]
    )

    found = world.report().breaks

    assert ["changed 3"] == world.findings()
    assert str(found[0]).startswith("audit-00000001.jsonl:4: entry 3 was changed")


def test_a_line_in_another_spelling_is_not_taken(world: AuditWorld) -> None:
    """Attack: a key is there twice, so that two readers see two things."""
    world.write(entries(3))
    lines = world.lines()
    lines[2] = lines[2].replace(b'"actor":"ada"', b'"actor":"eve","actor":"ada"')
    world.rewrite(lines)

    assert ["unreadable 1", "missing 2"] == world.findings()


def test_an_entry_removed_from_the_file_is_missed(world: AuditWorld) -> None:
    """Attack: one line is taken out."""
    world.write(entries(5))
    world.rewrite([line for line in world.lines() if b"agent-3" not in line])

    assert ["missing 3"] == world.findings()


def test_lines_that_were_swapped_are_noticed(world: AuditWorld) -> None:
    """Attack: two entries change places."""
    world.write(entries(5))
    lines = world.lines()
    lines[2], lines[3] = lines[3], lines[2]
    world.rewrite(lines)

    assert ["missing 2", "reordered 2"] == world.findings()


def test_a_tail_cut_off_before_the_signed_head_is_missed(world: AuditWorld) -> None:
    """Attack: the latest entries go, the head stays."""
    world.write(entries(5))
    lines = world.lines()
    world.rewrite([*lines[:4], lines[-1]])

    assert ["missing 4"] == world.findings()


def test_a_tail_cut_off_with_its_head_is_missed_by_a_head_that_was_kept(world: AuditWorld) -> None:
    """Attack: the latest entries go, and the signed head with them."""
    world.write(entries(5))
    kept = [parse_line(world.lines()[-1])]
    world.rewrite(world.lines()[:4])

    report = examine(read_all(world.paths), keys=[world.private.public_key()], kept=kept)  # type: ignore[arg-type]

    assert [] == world.findings()
    assert ["entry 4 to 5 was cut off at the end: a signed head says that the chain reached so far"] == [
        str(each) for each in report.breaks
    ]


def test_a_whole_chain_written_anew_does_not_fit_the_signed_head(world: AuditWorld) -> None:
    """Attack: everything from one entry on is made again, hashes and all, and the old head is left."""
    chain = entries(5)
    world.write(chain)
    lines = world.lines()
    decisions = [replace(revocation(number), actor="eve") for number in (3, 4, 5)]
    forged = chained(decisions, chain[1].link, at_ms=NOW_MS)
    world.rewrite([*lines[:3], *map(line_of, forged), lines[-1]])

    assert ["rewritten 5"] == world.findings()


def test_a_head_signed_with_another_key_is_forged(world: AuditWorld) -> None:
    """Attack: the chain is written anew and signed anew, with a key that is not the server's."""
    forger = AuditWorld(world.directory, Ed25519PrivateKey.generate())
    forger.write(entries(3))

    assert ["forged head 3"] == world.findings()


def test_a_head_whose_number_was_raised_is_forged(world: AuditWorld) -> None:
    """Attack: a genuine signature under another number."""
    world.write(entries(3))
    lines = world.lines()
    lines[-1] = lines[-1].replace(b'"seq":3', b'"seq":2')
    world.rewrite(lines)

    assert ["forged head 2"] == world.findings()


def test_a_file_that_is_gone_is_missed(world: AuditWorld) -> None:
    """Attack: one file of three is removed."""
    chain = entries(6)
    files = world.open(FileLimits(bytes=1))
    files.begin(START, now_ms=NOW_MS)
    for number in (0, 2, 4):
        files.append(chain[number : number + 2], now_ms=NOW_MS)
    files.close()
    assert [] == world.findings()
    world.paths[2].unlink()

    assert ["missing 3"] == world.findings()


def test_a_file_of_another_installation_is_foreign(world: AuditWorld, tmp_path: Path) -> None:
    """Attack: a file is exchanged for one of a server of the attacker's own."""
    world.write(entries(2))
    other = AuditWorld(tmp_path / "other", world.private)
    other.write(entries(2))
    text = other.paths[0].read_bytes().replace(b"installation-1", b"installation-2")
    (world.directory / "audit-00000002.jsonl").write_bytes(text)

    assert "foreign 1" in world.findings()


@pytest.mark.parametrize("torn", [1, 40, 200])
def test_a_writer_killed_in_the_middle_of_a_line_loses_and_repeats_nothing(
    world: AuditWorld, torn: int
) -> None:
    """The next one cuts the torn line off and writes it whole."""
    chain = entries(4)
    world.write(chain[:3], sign=False)
    path = world.paths[0]
    path.write_bytes(path.read_bytes() + line_of(chain[3])[:torn])

    files = world.open()
    assert chain[2].link == files.reached
    files.append(chain[3:], now_ms=NOW_MS)
    files.close()

    assert [] == world.findings()
    assert chain == list(read_entries(world.paths))


def test_a_writer_killed_before_a_new_file_says_anything_leaves_none(world: AuditWorld) -> None:
    """The empty file is removed; the one before it goes on."""
    chain = entries(3)
    world.write(chain[:2])
    (world.directory / "audit-00000002.jsonl").write_bytes(b'{"anchor":{"ha')

    world.write(chain[2:])

    assert 1 == len(world.paths)
    assert [] == world.findings()


def test_a_full_disk_leaves_whole_lines_only(world: AuditWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what was to be written was: it is taken back, and written again when there is room."""
    chain = entries(4)
    files = world.open()
    files.begin(START, now_ms=NOW_MS)
    files.append(chain[:2], now_ms=NOW_MS)
    whole = os.write

    def no_space(descriptor: int, content: bytes) -> int:
        if len(content) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(descriptor, content[: len(content) // 2])

    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(OSError, match="No space"):
        files.append(chain[2:], now_ms=NOW_MS)
    monkeypatch.setattr(os, "write", whole)
    assert chain[:2] == list(read_entries(world.paths))

    files.append(chain[2:], now_ms=NOW_MS)
    files.close()

    assert chain == list(read_entries(world.paths))
    assert [] == world.findings()


def test_a_new_file_is_begun_when_one_is_old_and_old_ones_go(world: AuditWorld) -> None:
    """What is left hangs on the anchor of its first file."""
    chain = entries(3)
    limits = FileLimits(age=timedelta(days=1), keep=timedelta(days=2))
    files = world.open(limits)
    files.begin(START, now_ms=NOW_MS)
    for day, entry in enumerate(chain):
        files.append([entry], now_ms=NOW_MS + day * DAY_MS)
    assert 3 == len(world.paths)
    later = entries(1, after=chain[-1].link)
    files.append(later, now_ms=NOW_MS + 3 * DAY_MS)
    files.close()

    assert ["audit-00000002.jsonl", "audit-00000003.jsonl", "audit-00000004.jsonl"] == [
        path.name for path in world.paths
    ]
    assert [] == world.findings()
    assert chain[0].link == world.report().first


def test_files_are_closed_to_others(world: AuditWorld) -> None:
    """They say who may do what here."""
    world.write(entries(1))

    assert {0o600} == {path.stat().st_mode & 0o777 for path in world.directory.iterdir()}


def test_only_one_process_writes_a_directory(tmp_path: Path) -> None:
    """Whoever comes second is told so."""
    with only_writer(tmp_path / "audit") as first, only_writer(tmp_path / "audit") as second:
        assert (True, False) == (first, second)
    with only_writer(tmp_path / "audit") as third:
        assert third


def test_the_end_of_a_long_file_is_found_from_its_end(world: AuditWorld) -> None:
    """A start does not read years of decisions."""
    chain = entries(1_000)
    world.write(chain)

    files = world.open()
    files.close()

    assert chain[-1].link == files.reached
    assert chain[499].hash == hash_at(world.paths, 500)
    assert hash_at(world.paths, 1_001) is None


def test_a_directory_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    """A new server's."""
    assert [] == audit_files(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"null", b"\xff", b'{"entry":1,"hash":"00"}', b"[" * 9_999]
)
def test_anything_else_is_no_line_of_ours(line: bytes) -> None:
    """Whatever stands there, reading goes on."""
    with pytest.raises(LineError):
        parse_line(line)


def test_a_fork_is_named_where_it_begins(world: AuditWorld) -> None:
    """The database was rolled back and the files were ahead: they keep both, and say so."""
    chain = entries(5)
    world.write(chain)
    files: ChainFiles = world.open()
    files.begin(chain[2].link, now_ms=NOW_MS)
    files.append(chained([replace(revocation(4), actor="eve")], chain[2].link, at_ms=1), now_ms=NOW_MS)
    files.close()

    assert ["forked 4"] == world.findings()
