"""What the audit files say was decided after a backup, and which of it is believed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.values import leaf
from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import START, Entry, Link, chained
from ct_ops_server.audit.heads import Head, SignedHead, key_name, sign_head
from ct_ops_server.audit.lines import Anchor, line_of
from ct_ops_server.backup.since import Since, Why, event_of, read_since
from ct_ops_server.backup.told import (
    AuditChangedError,
    AuditFilesError,
    AuditForeignError,
    AuditGapError,
    AuditTailError,
)
from ct_ops_server.enrolment.decisions import key_replaced
from ct_ops_server.enrolment.model import NewKey
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.replaying import (
    AgentApproved,
    AgentDeleted,
    AgentRevoked,
    KeyReplaced,
    KeyShared,
    PlaceTaken,
    Said,
    Subject,
    TokenRevoked,
    TokenSpent,
)

KEY = Ed25519PrivateKey.generate()
ABOUT_IT = {"key_id": "k1", "hostname": "web-1", "status": "active", "reason": "left"}
SAID = Said("alice", "left", 5)


def decided(action: Action, **details: str) -> Decision:
    return Decision(action, "alice", agent="a1", token="t1", details=ABOUT_IT | details)


def told(
    folder: Path,
    end: Link,
    *,
    installation: str | None = None,
    kept: Sequence[SignedHead] = (),
    forgiving: bool = False,
) -> Since | None:
    """Ask, as a backup does that knows one key."""
    keys = [KEY.public_key()]
    return read_since(folder, end, keys=keys, installation=installation, kept=kept, forgiving=forgiving)


def signed(link: Link, of: str = "ours") -> bytes:
    """Return the line of a head that the key of the backup signed."""
    return line_of(sign_head(Head(link, 5, of, key_name(KEY.public_key())), KEY.sign))


def written(folder: Path, *entries: Sequence[Entry], after: Sequence[Link] = (), of: str = "ours") -> Path:
    """Write a file for each part of a chain; its anchor is the beginning of all, or what ``after`` says."""
    for number, part in enumerate(entries, 1):
        anchor = Anchor(after[number - 1] if after else START, 5, of)
        lines = line_of(anchor) + b"".join(map(line_of, part))
        (folder / f"audit-{number:08}.jsonl").write_bytes(lines)
    return folder


ENTRIES = chained([decided(Action.AGENT_ADMITTED), decided(Action.AGENT_REVOKED)], START, at_ms=5)


@pytest.mark.parametrize(
    ("decision", "event"),
    [
        (decided(Action.AGENT_REVOKED), AgentRevoked(Subject("a1", "k1", "web-1"), SAID)),
        (decided(Action.AGENT_REJECTED), AgentRevoked(Subject("a1", "k1", "web-1"), SAID)),
        (decided(Action.AGENT_DEREGISTERED), AgentRevoked(Subject("a1", "k1", "web-1"), SAID)),
        (decided(Action.AGENT_DELETED), AgentDeleted(Subject("a1", "k1", "web-1"), AgentStatus.ACTIVE, SAID)),
        (decided(Action.AGENT_APPROVED), AgentApproved("a1", SAID)),
        (decided(Action.AGENT_ADMITTED), TokenSpent("t1")),
        (decided(Action.TOKEN_REVOKED), TokenRevoked("t1", SAID)),
        (
            decided(Action.AGENT_KEY_REPLACED, public_key=base64.b64encode(b"der").decode()),
            KeyReplaced("a1", "k1", b"der", SAID),
        ),
        (decided(Action.AGENT_KEY_REPLACED), None),
        (decided(Action.AGENT_SPLIT), KeyShared("a1", SAID, "k1")),
        (
            decided(Action.AGENT_REPLACED, old_key_id="k0"),
            PlaceTaken(Subject("a1", "k1", "web-1"), "", "k0", b"", SAID),
        ),
        (decided(Action.QUERY_ASKED), None),
    ],
)
def test_decisions_become_events(decision: Decision, event: object) -> None:
    """Those that a restore must not undo; others are none."""
    (entry,) = chained([decision], START, at_ms=5)

    assert event == event_of(entry)


def test_an_agent_deleted_in_a_status_of_a_newer_version_stays_out() -> None:
    """In doubt its key is barred."""
    (entry,) = chained([decided(Action.AGENT_DELETED, status="quarantined-twice")], START, at_ms=5)
    event = event_of(entry)

    assert isinstance(event, AgentDeleted)
    assert event.status is AgentStatus.REVOKED


def test_what_came_after_the_backup_is_told_and_nothing_else(tmp_path: Path) -> None:
    """The entry that the backup ends with was in it."""
    since = told(written(tmp_path, ENTRIES), ENTRIES[0].link)

    assert since is not None
    assert [type(event) for event in since.events] == [AgentRevoked]
    assert list(since.chain) == [ENTRIES[1]]


def test_files_that_end_where_the_backup_does_tell_nothing(tmp_path: Path) -> None:
    """They are older than the disaster, and so is a folder that is empty or not there."""
    assert told(written(tmp_path, ENTRIES), ENTRIES[1].link) is None
    assert told(tmp_path / "missing", START) is None


def test_files_that_begin_after_the_backup_are_no_answer(tmp_path: Path) -> None:
    """What was revoked between is in none of them."""
    with pytest.raises(AuditGapError, match="does not have entry 1 "):
        told(written(tmp_path, ENTRIES[1:], after=[ENTRIES[0].link]), START)


MORE = chained([decided(Action.AGENT_REVOKED)] * 6, START, at_ms=5)


def test_files_that_lack_one_in_the_middle_are_no_answer(tmp_path: Path) -> None:
    """Whoever was revoked there would come back, and the files behind it would look like the whole story."""
    folder = written(tmp_path, MORE[:2], MORE[4:], after=[START, MORE[3].link])

    for end in (START, MORE[0].link, MORE[2].link):
        with pytest.raises(AuditGapError, match=r"does not have entr(y|ies) (3 to )?4"):
            told(folder, end)


def test_a_gap_from_before_the_backup_costs_nothing(tmp_path: Path) -> None:
    """What happened there is in the backup."""
    since = told(written(tmp_path, MORE[:2], MORE[4:], after=[START, MORE[3].link]), MORE[3].link)

    assert since is not None
    assert list(since.chain) == list(MORE[4:])


@pytest.mark.parametrize("tampered", [b'"reason":"left"', b'"action":"agent.revoked"'])
def test_attack_a_revocation_that_was_edited_away_stops_a_restore(tmp_path: Path, tampered: bytes) -> None:
    """In its place stands another decision, or a line that nobody can read."""
    (path,) = written(tmp_path, MORE).iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(tampered, b'"reason":"kept"')
    path.write_bytes(b"".join(lines))

    with pytest.raises(AuditChangedError, match=r"not as it was written .*--forget-revocations"):
        told(tmp_path, MORE[1].link)
    assert told(tmp_path, MORE[4].link) is not None


def test_attack_two_entries_that_change_places_stop_a_restore(tmp_path: Path) -> None:
    """So does one that is there twice: somebody was at work."""
    with pytest.raises(AuditFilesError):
        told(written(tmp_path, [*MORE[:2], MORE[3], MORE[2], *MORE[4:]]), START)
    with pytest.raises(AuditChangedError):
        told(written(tmp_path, [*MORE[:3], MORE[2], *MORE[3:]]), START)


def test_the_folder_of_another_installation_is_no_answer(tmp_path: Path) -> None:
    """It is taken by mistake, and knows nobody who was revoked here."""
    with pytest.raises(AuditForeignError, match="another installation"):
        told(written(tmp_path, MORE, of="theirs"), START, installation="ours")
    assert told(written(tmp_path, MORE), START, installation="ours") is not None


def test_files_of_another_history_are_no_answer(tmp_path: Path) -> None:
    """The database was put back by hand, and what was decided since is in the files of another node."""
    other = chained([decided(Action.AGENT_APPROVED)] * 3, START, at_ms=6)

    with pytest.raises(AuditForeignError, match="does not know entry 3"):
        told(written(tmp_path, MORE), other[2].link)


def test_attack_files_whose_end_was_cut_off_are_no_answer(tmp_path: Path) -> None:
    """Else whoever was revoked last would come back; their own head tells, also the one beside them."""
    cut = written(tmp_path, ENTRIES[:1])
    head = Head(ENTRIES[1].link, 5, "installation", "key")
    (tmp_path / "head.json").write_bytes(line_of(sign_head(head, lambda _: b"s" * 64)))

    for end in (START, ENTRIES[0].link):
        with pytest.raises(AuditTailError, match=r"ends with entry 1, .* there were 2"):
            told(cut, end)


def test_attack_an_end_that_was_cut_off_with_its_heads_is_missed_by_one_that_was_kept(
    tmp_path: Path,
) -> None:
    """Else they look like older files; and a history that was made anew does not have what it names."""
    cut = written(tmp_path, ENTRIES[:1])
    kept = [sign_head(Head(ENTRIES[1].link, 5, "ours", key_name(KEY.public_key())), KEY.sign)]
    assert told(cut, START) is not None
    for end in (START, ENTRIES[0].link):
        with pytest.raises(AuditTailError, match="there were 2"):
            told(cut, end, kept=kept)
    written(tmp_path, chained([decided(Action.AGENT_APPROVED)] * 3, START, at_ms=7))
    with pytest.raises(AuditChangedError, match="rewritten"):
        told(tmp_path, START, kept=kept)
    assert told(written(tmp_path, ENTRIES), START, kept=kept) is not None


def test_of_another_branch_revocations_are_believed_and_approvals_are_not(tmp_path: Path) -> None:
    """Somebody who can write beside the chain may take away, and never give."""
    forged = chained(
        [decided(Action.AGENT_APPROVED), decided(Action.AGENT_REVOKED)], Link(0, b"x" * 32), at_ms=5
    )
    since = told(written(tmp_path, ENTRIES, forged, after=[START, Link(0, b"x" * 32)]), START)

    assert since is not None
    assert [type(event) for event in since.events] == [TokenSpent, AgentRevoked, AgentRevoked]
    assert list(since.chain) == list(ENTRIES)


def test_a_key_that_followed_is_recorded_whole() -> None:
    """As the store records it: else an agent with a rotated key would be a stranger to a restored server."""
    decision = key_replaced("a1", "old", NewKey("new", b"public key"), leaf("a1", "serial"))
    (entry,) = chained([decision], START, at_ms=5)

    assert KeyReplaced("a1", "new", b"public key", Said("agent:a1", "", 5), "old") == event_of(entry)


@pytest.mark.parametrize(
    ("action", "changed"),
    [
        (Action.SERVER_CA_PREPARED, False),
        (Action.SERVER_CA_ACTIVATED, True),
        (Action.SERVER_CA_RETIRED, True),
    ],
)
def test_a_change_of_the_server_ca_since_the_backup_is_told(
    tmp_path: Path, action: Action, *, changed: bool
) -> None:
    """Agents that believe only the new one will not believe what the backup holds."""
    entries = chained([Decision(Action.AGENT_ADMITTED, "alice"), Decision(action, "alice")], START, at_ms=5)
    since = told(written(tmp_path, entries), entries[0].link)

    assert since is not None
    assert changed == since.server_ca_changed


GIVING = (
    decided(Action.AGENT_APPROVED),
    decided(Action.AGENT_KEY_REPLACED, public_key=base64.b64encode(b"der").decode()),
    decided(Action.AGENT_REPLACED, old_key_id="k0", public_key=base64.b64encode(b"der").decode()),
)
TAKING = (
    decided(Action.AGENT_REVOKED),
    decided(Action.AGENT_ADMITTED),
    decided(Action.TOKEN_REVOKED),
    decided(Action.AGENT_SPLIT),
)
BOTH = chained([*GIVING, *TAKING], START, at_ms=5)
TAKEN = [AgentRevoked, TokenSpent, TokenRevoked, KeyShared]


def test_what_a_signed_head_reaches_is_done_again_all_of_it(tmp_path: Path) -> None:
    """A server that was there vouches for it."""
    (path,) = written(tmp_path, BOTH).iterdir()
    path.write_bytes(path.read_bytes() + signed(BOTH[-1].link))
    since = told(tmp_path, START, installation="ours")

    assert since is not None
    assert [AgentApproved, KeyReplaced, PlaceTaken, *TAKEN] == [type(event) for event in since.events]
    assert ([], (8, 7)) == (since.disbelieved, since.unvouched)


def test_attack_entries_appended_to_a_copied_folder_give_nothing(tmp_path: Path) -> None:
    """Whoever can write there approves an agent, gives it his key, and puts his host in another's place: by the book."""
    (path,) = written(tmp_path, ENTRIES).iterdir()
    forged = chained(GIVING, ENTRIES[-1].link, at_ms=5)
    lines = signed(ENTRIES[-1].link) + b"".join(map(line_of, forged))
    path.write_bytes(path.read_bytes() + lines)
    since = told(tmp_path, START)

    assert since is not None
    assert [TokenSpent, AgentRevoked, PlaceTaken] == [type(event) for event in since.events]
    assert since.events[-1] == PlaceTaken(Subject("a1", "k1", "web-1"), "", "k0", b"", SAID)
    assert [(3, Why.UNSIGNED), (4, Why.UNSIGNED), (5, Why.UNSIGNED)] == [
        (each.entry.seq, each.why) for each in since.disbelieved
    ]
    assert (3, 5) == since.unvouched


def test_attack_the_same_with_heads_of_a_key_of_his_own(tmp_path: Path) -> None:
    """The backup does not know it."""
    evil = Ed25519PrivateKey.generate()
    (path,) = written(tmp_path, BOTH).iterdir()
    head = Head(BOTH[-1].link, 5, "ours", key_name(evil.public_key()))
    path.write_bytes(path.read_bytes() + line_of(sign_head(head, evil.sign)))
    since = told(tmp_path, START)

    assert since is not None
    assert {Why.STRANGER} == {each.why for each in since.disbelieved}
    assert [PlaceTaken, *TAKEN] == [type(event) for event in since.events]


def test_attack_a_split_that_nobody_vouches_for_names_no_key(tmp_path: Path) -> None:
    """Who holds the key of a split may come back without a token, as one who waits: the attacker would name his."""
    forged = chained([decided(Action.AGENT_SPLIT)], START, at_ms=5)
    since = told(written(tmp_path, forged), START)

    assert since is not None
    assert [KeyShared("a1", SAID)] == since.events
    assert [Why.UNSIGNED] == [each.why for each in since.disbelieved]


def test_a_crash_loses_no_revocation_of_the_tail(tmp_path: Path) -> None:
    """What takes away is believed without a signature: whoever forges it gains nothing."""
    (path,) = written(tmp_path, ENTRIES).iterdir()
    tail = chained(TAKING, ENTRIES[-1].link, at_ms=5)
    path.write_bytes(path.read_bytes() + signed(ENTRIES[-1].link) + b"".join(map(line_of, tail)))
    since = told(tmp_path, ENTRIES[-1].link)

    assert since is not None
    assert TAKEN == [type(event) for event in since.events]
    assert list(tail) == list(since.chain)
    assert [Action.AGENT_SPLIT.value] == [each.entry.action for each in since.disbelieved]


def test_attack_a_deletion_that_nobody_vouches_for_brings_no_revoked_agent_back(tmp_path: Path) -> None:
    """A deletion takes the row that bars the agent along: so it is revoked, which it may be already."""
    forged = chained([decided(Action.AGENT_DELETED)], START, at_ms=5)
    since = told(written(tmp_path, forged), START)

    assert since is not None
    assert [AgentRevoked(Subject("a1", "k1", "web-1"), SAID)] == since.events
    assert ["the agent is revoked, not deleted"] == [each.instead for each in since.disbelieved]


def test_an_outage_that_tore_the_files_costs_only_what_they_do_not_tell(tmp_path: Path) -> None:
    """--forget-revocations forgets what cannot be read, and nothing else."""
    (path,) = written(tmp_path, MORE).iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b"torn\n"
    path.write_bytes(b"".join(lines))

    with pytest.raises(AuditChangedError):
        told(tmp_path, START)
    since = told(tmp_path, START, forgiving=True)

    assert since is not None
    assert [AgentRevoked] * 5 == [type(event) for event in since.events]
    assert "not as it was written" in since.flaw
    assert list(MORE[:2]) == list(since.chain)


def test_a_missing_file_costs_only_what_was_in_it(tmp_path: Path) -> None:
    """Also the first one, and also when a history is told that the backup does not know."""
    gap = written(tmp_path, MORE[:2], MORE[4:], after=[START, MORE[3].link])

    for end in (START, MORE[2].link, Link(1, b"x" * 32)):
        since = told(gap, end, forgiving=True)
        assert since is not None
        assert len(since.events) == {0: 4, 3: 2, 1: 3}[end.seq]
        assert since.flaw


def test_another_installations_files_are_not_told_to_anybody(tmp_path: Path) -> None:
    """Whoever forgives what is missing does not mean to revoke another fleet."""
    folder = written(tmp_path, MORE, of="theirs")
    assert told(folder, START, installation="ours", forgiving=True) is None

    mixed = written(tmp_path, MORE[:3], of="ours")
    (mixed / "audit-00000002.jsonl").write_bytes(
        line_of(Anchor(MORE[2].link, 5, "theirs")) + b"".join(map(line_of, MORE[3:]))
    )
    since = told(mixed, START, installation="ours", forgiving=True)
    assert since is not None
    assert len(since.events) == 3
