"""What the audit files say was decided after a backup, and which of it is believed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import pytest

from contract.values import leaf
from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import START, Entry, Link, chained
from ct_ops_server.audit.heads import Head, sign_head
from ct_ops_server.audit.lines import Anchor, line_of
from ct_ops_server.backup.since import event_of, read_since
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

ABOUT_IT = {"key_id": "k1", "hostname": "web-1", "status": "active", "reason": "left"}
SAID = Said("alice", "left", 5)


def decided(action: Action, **details: str) -> Decision:
    return Decision(action, "alice", agent="a1", token="t1", details=ABOUT_IT | details)


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
    since = read_since(written(tmp_path, ENTRIES), ENTRIES[0].link)

    assert since is not None
    assert [type(event) for event in since.events] == [AgentRevoked]
    assert list(since.chain) == [ENTRIES[1]]


def test_files_that_end_where_the_backup_does_tell_nothing(tmp_path: Path) -> None:
    """They are older than the disaster, and so is a folder that is empty or not there."""
    assert read_since(written(tmp_path, ENTRIES), ENTRIES[1].link) is None
    assert read_since(tmp_path / "missing", START) is None


def test_files_that_begin_after_the_backup_are_no_answer(tmp_path: Path) -> None:
    """What was revoked between is in none of them."""
    with pytest.raises(AuditGapError, match="does not have entry 1 "):
        read_since(written(tmp_path, ENTRIES[1:], after=[ENTRIES[0].link]), START)


MORE = chained([decided(Action.AGENT_REVOKED)] * 6, START, at_ms=5)


def test_files_that_lack_one_in_the_middle_are_no_answer(tmp_path: Path) -> None:
    """Whoever was revoked there would come back, and the files behind it would look like the whole story."""
    folder = written(tmp_path, MORE[:2], MORE[4:], after=[START, MORE[3].link])

    for end in (START, MORE[0].link, MORE[2].link):
        with pytest.raises(AuditGapError, match=r"does not have entr(y|ies) (3 to )?4"):
            read_since(folder, end)


def test_a_gap_from_before_the_backup_costs_nothing(tmp_path: Path) -> None:
    """What happened there is in the backup."""
    since = read_since(written(tmp_path, MORE[:2], MORE[4:], after=[START, MORE[3].link]), MORE[3].link)

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
        read_since(tmp_path, MORE[1].link)
    assert read_since(tmp_path, MORE[4].link) is not None


def test_attack_two_entries_that_change_places_stop_a_restore(tmp_path: Path) -> None:
    """So does one that is there twice: somebody was at work."""
    with pytest.raises(AuditFilesError):
        read_since(written(tmp_path, [*MORE[:2], MORE[3], MORE[2], *MORE[4:]]), START)
    with pytest.raises(AuditChangedError):
        read_since(written(tmp_path, [*MORE[:3], MORE[2], *MORE[3:]]), START)


def test_the_folder_of_another_installation_is_no_answer(tmp_path: Path) -> None:
    """It is taken by mistake, and knows nobody who was revoked here."""
    with pytest.raises(AuditForeignError, match="another installation"):
        read_since(written(tmp_path, MORE, of="theirs"), START, installation="ours")
    assert read_since(written(tmp_path, MORE), START, installation="ours") is not None


def test_files_of_another_history_are_no_answer(tmp_path: Path) -> None:
    """The database was put back by hand, and what was decided since is in the files of another node."""
    other = chained([decided(Action.AGENT_APPROVED)] * 3, START, at_ms=6)

    with pytest.raises(AuditForeignError, match="does not know entry 3"):
        read_since(written(tmp_path, MORE), other[2].link)


def test_attack_files_whose_end_was_cut_off_are_no_answer(tmp_path: Path) -> None:
    """Else whoever was revoked last would come back; their own head tells, also the one beside them."""
    cut = written(tmp_path, ENTRIES[:1])
    head = Head(ENTRIES[1].link, 5, "installation", "key")
    (tmp_path / "head.json").write_bytes(line_of(sign_head(head, lambda _: b"s" * 64)))

    for end in (START, ENTRIES[0].link):
        with pytest.raises(AuditTailError, match=r"ends with entry 1, .* there were 2"):
            read_since(cut, end)


def test_of_another_branch_revocations_are_believed_and_approvals_are_not(tmp_path: Path) -> None:
    """Somebody who can write beside the chain may take away, and never give."""
    forged = chained(
        [decided(Action.AGENT_APPROVED), decided(Action.AGENT_REVOKED)], Link(0, b"x" * 32), at_ms=5
    )
    since = read_since(written(tmp_path, ENTRIES, forged, after=[START, Link(0, b"x" * 32)]), START)

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
    since = read_since(written(tmp_path, entries), entries[0].link)

    assert since is not None
    assert changed == since.server_ca_changed
