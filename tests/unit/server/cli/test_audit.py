"""``ct-ops-server audit verify`` on files alone: what it says, and what it ends with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_server.audit.entries import chained
from ct_ops_server.audit.keys import announcement
from ct_ops_server.audit.lines import line_of
from ct_ops_server.cli.audit_output import entries_table
from ct_ops_server.cli.root import main
from ct_ops_server.edge.admin_audit import entry_view
from unit.server.audit.audit_world import NOW_MS, AuditWorld, entries


@pytest.fixture
def world(tmp_path: Path) -> AuditWorld:
    """A data directory with three entries in its files, and the public key."""
    world = AuditWorld(tmp_path / "data" / "audit")
    world.directory.parent.mkdir()
    world.write(entries(3))
    write_key(tmp_path / "data" / "audit.pub", world.private)
    return world


def write_key(path: Path, private: Ed25519PrivateKey) -> None:
    path.write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def verify(world: AuditWorld, *arguments: str) -> Result:
    data_dir = str(world.directory.parent)
    return CliRunner().invoke(main, ["audit", "verify", *arguments], env={"INGEST_DATA_DIR": data_dir})


def test_whole_files_end_with_zero_and_say_how_far_they_are_signed(world: AuditWorld) -> None:
    """Without an argument: those of the data directory."""
    done = verify(world)

    assert 0 == done.exit_code, done.output
    assert "3 entries, from 1 to 3" in done.output
    assert "signed through entry 3" in done.output


def test_a_file_elsewhere_is_verified_with_and_without_a_key(world: AuditWorld, tmp_path: Path) -> None:
    """It says that heads were not verified, rather than that they were."""
    file = str(world.paths[0])
    without = verify(world, file)
    with_key = verify(world, file, "--key", str(tmp_path / "data" / "audit.pub"), "--json")

    assert (0, 0) == (without.exit_code, with_key.exit_code)
    assert "signed heads were not verified" in without.output
    assert json.loads(with_key.output)["heads_verified"]


def test_a_chain_signed_by_another_server_ends_with_one(world: AuditWorld, tmp_path: Path) -> None:
    """Attack: everything was made anew with a key of the attacker's."""
    write_key(tmp_path / "genuine.pub", Ed25519PrivateKey.generate())
    done = verify(world, str(world.paths[0]), "--key", str(tmp_path / "genuine.pub"))

    assert 1 == done.exit_code
    assert "has a head that the key did not sign" in done.output


def test_a_head_that_was_kept_elsewhere_finds_a_tail_cut_off(world: AuditWorld, tmp_path: Path) -> None:
    """Attack: entries go, and both heads in the directory with them."""
    kept = tmp_path / "kept.json"
    kept.write_bytes((world.directory / "head.json").read_bytes())
    (world.directory / "head.json").unlink()
    world.rewrite(world.lines()[:3])

    assert 0 == verify(world).exit_code
    done = verify(world, "--head", str(kept), "--json")
    assert 1 == done.exit_code
    (found,) = json.loads(done.output.partition("\nError")[0])["findings"]
    assert ("truncated", 3, 3) == (found["fault"], found["from"], found["to"])


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("--key", b"-----BEGIN NONSENSE", "holds no public Ed25519 key"),
        ("--head", b"{}\n", "holds no signed head"),
    ],
)
def test_a_file_that_was_not_meant_is_named(
    world: AuditWorld, tmp_path: Path, option: str, content: bytes, said: str
) -> None:
    """With what belongs there."""
    (tmp_path / "wrong").write_bytes(content)
    done = verify(world, option, str(tmp_path / "wrong"))

    assert 2 == done.exit_code
    assert said in done.output


def test_a_key_of_another_sort_is_no_key_of_an_audit_log(world: AuditWorld, tmp_path: Path) -> None:
    """The release key, for one."""
    other = generate_private_key(SECP256R1()).public_key()
    (tmp_path / "other.pub").write_bytes(
        other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )

    assert 2 == verify(world, "--key", str(tmp_path / "other.pub")).exit_code


def test_files_and_the_database_are_not_verified_at_once(world: AuditWorld) -> None:
    """Which one was not whole would not be clear."""
    assert 2 == verify(world, str(world.paths[0]), "--database").exit_code


def test_a_directory_without_a_log_fails_with_a_sentence(world: AuditWorld) -> None:
    """An auditor must not take nothing for whole."""
    for path in world.directory.iterdir():
        path.unlink()
    done = verify(world)

    assert 1 == done.exit_code
    assert "there are no files of an audit log" in done.output


def test_entries_are_a_table_for_people() -> None:
    """Fingerprints are cut, and nothing that is empty is shown."""
    entry = {
        "seq": 7,
        "at": "2026-11-26T09:12:44.123+00:00",
        "action": "agent.revoked",
        "actor": "anna",
        "agent": "5f3c",
        "token": "",
        "subject": "",
        "details": {"key_id": "a" * 64, "reason": "", "tags": ["x", "y"], "signed": True},
    }

    assert [
        "NO  WHEN                 WHO   DID            TO    DETAILS",
        f"7   2026-11-26 09:12:44  anna  agent.revoked  5f3c  key_id={'a' * 12}… signed=yes tags=x,y",
    ] == entries_table([entry]).splitlines()
    assert "nothing was decided" in entries_table([])


def test_attack_a_time_that_there_is_not_does_not_end_verify(world: AuditWorld) -> None:
    """A file that somebody made up is judged like any other."""
    made_up = replace(entries(3)[-1], at_ms=10**30)
    world.rewrite([*world.lines()[:3], line_of(made_up)])

    done = verify(world)

    assert 1 == done.exit_code
    assert "entry 3 was changed" in done.output
    assert "a time that there is not" in done.output


def test_attack_what_stands_in_a_tampered_database_moves_no_cursor() -> None:
    """Decisions are cleaned before they are recorded; what somebody wrote there himself is when it is shown."""
    entry = entry_view(
        replace(entries(1)[0], actor="\x1b[2Jada\x9b", at_ms=10**30, details={"x": "a\rb\u202e"})
    )

    shown = entries_table([entry])

    assert all(each.isprintable() or each == "\n" for each in shown)
    assert "9999-12-31" in shown


def test_thousands_of_findings_do_not_scroll_the_first_ones_away(world: AuditWorld) -> None:
    """They are all in the JSON."""
    world.write(entries(500, after=entries(3)[-1].link))
    world.rewrite(world.lines()[:1] + world.lines()[5::2])

    done = verify(world)

    assert 1 == done.exit_code
    assert 115 > len(done.output.splitlines())
    assert "more findings: --json prints all of them" in done.output


def test_keys_that_are_named_are_the_only_ones_that_count(world: AuditWorld, tmp_path: Path) -> None:
    """Attack: the log was made anew, and its new public key put into the data directory."""
    data = world.directory.parent
    kept = tmp_path / "kept.pub"
    write_key(kept, Ed25519PrivateKey.generate())

    assert 0 == verify(world).exit_code
    assert 1 == verify(world, "--key", str(kept)).exit_code
    assert 0 == verify(world, "--key", str(kept), "--key", str(data / "audit.pub")).exit_code


def test_the_public_file_holds_the_keys_of_before_and_a_loss_is_shown(world: AuditWorld) -> None:
    """Heads of both are verified; that none vouches for the new one is said, and is no finding."""
    public = world.directory.parent / "audit.pub"
    before = public.read_bytes()
    later = AuditWorld(world.directory)
    announcing = announcement(later.private.public_key())
    later.write(chained([announcing], entries(3)[-1].link, at_ms=NOW_MS))
    write_key(public, later.private)
    assert 1 == verify(world).exit_code
    public.write_bytes(public.read_bytes() + before)
    done, shown = verify(world), verify(world, "--json")

    assert 0 == done.exit_code, done.output
    assert "signed through entry 4" in done.output
    assert (
        f"entry 4 announces the key {later.signer.key}, and no key from before vouches for it" in done.output
    )
    assert [4] == [each["entry"] for each in json.loads(shown.output)["key_changes"]]


def test_an_action_that_there_is_not_is_refused() -> None:
    """A list that is empty for a slip of the pen looks as if nothing had been decided."""
    done = CliRunner().invoke(main, ["audit", "list", "--action", "agent.revokd"])

    assert 2 == done.exit_code
    assert "agent.revoked" in done.output
