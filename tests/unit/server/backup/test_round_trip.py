"""An installation into a file and back, and every reason why not."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from ct_ops_server.audit.entries import START, Link
from ct_ops_server.audit.examination import examine
from ct_ops_server.audit.keys import parse_key_hex
from ct_ops_server.audit.lines import Anchor, line_of
from ct_ops_server.audit.reading import DIRECTORY, audit_files, read_all
from ct_ops_server.authority.audit_key import load_public_keys
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.backup import making, placing
from ct_ops_server.backup.belongings import place_of
from ct_ops_server.backup.contents import About
from ct_ops_server.backup.envelope import Cost
from ct_ops_server.backup.errors import (
    BackupError,
    DamagedError,
    NewerBackupError,
    OccupiedError,
    WrongPassphraseError,
)
from ct_ops_server.backup.making import make_backup
from ct_ops_server.backup.returning import Choices, Returned, return_backup
from ct_ops_server.backup.scratch import scratch_folder
from ct_ops_server.backup.since import Since, read_since
from ct_ops_server.config.load import load_settings
from ct_ops_server.config.schema import Settings
from ct_ops_server.core import open_core
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.store.installation import Installation
from ct_ops_server.store.opening import open_store

CHEAP = Cost(log_n=4)
PASSPHRASE = b"correct horse battery"
NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
FORGETTING = Choices(forget_revocations=True)


def settings_in(folder: Path, **environ: str) -> Settings:
    said = {"INGEST_DATA_DIR": str(folder), "AGENT_DIST_DIR": str(folder / "agent-dist"), **environ}
    return load_settings(said, env_file=folder / "no-such-file")


async def _fill(settings: Settings) -> Installation:
    async with open_core(settings, now=lambda: NOON) as core:
        await core.store.tokens.create_token("t1", b"d" * 32, TokenTerms("web"), actor="test")
        return core.installation


async def _read(settings: Settings) -> tuple[Installation, list[str]]:
    async with open_store(settings.database_url) as store:
        tokens = await store.tokens.list_tokens()
        return await store.installation.open(), [f"{token.id} {token.state(NOON)}" for token in tokens]


async def _trusted(settings: Settings) -> tuple[str, str, bytes]:
    """Return the agent CA and the token key that sign, and what agents pin; nothing of it may be made now."""
    made: list[str] = []
    async with open_core(settings, announce=made.append, now=lambda: NOON) as core:
        assert not made
        return core.trust.current.authority.pem, core.trust.current.kid, core.keys.tls.current.pin


def back_up(settings: Settings, file: Path) -> None:
    make_backup(settings, file, PASSPHRASE, now=NOON, cost=CHEAP)


def restore(
    settings: Settings, file: Path, choices: Choices = FORGETTING, passphrase: bytes = PASSPHRASE
) -> Returned:
    settings.data_dir.mkdir(mode=0o700, exist_ok=True)
    with file.open("rb") as opened:
        return return_backup(settings, opened, passphrase, choices, told=lambda _: None, now=NOON)


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def first(tmp_path: Path) -> Settings:
    """An installation with a token."""
    settings = settings_in(tmp_path / "first")
    settings.data_dir.mkdir(mode=0o700)
    asyncio.run(_fill(settings))
    return settings


@pytest.fixture
def backup(first: Settings, tmp_path: Path) -> Path:
    file = tmp_path / "backup"
    back_up(first, file)
    return file


@pytest.fixture
def second(tmp_path: Path) -> Settings:
    """Somewhere else."""
    return settings_in(tmp_path / "second")


def test_a_restored_installation_is_the_same_one_with_another_store(
    first: Settings, second: Settings, backup: Path
) -> None:
    """Agents know the one by its authorities, and deliver again because of the other."""
    before = asyncio.run(_trusted(first))
    shutil.rmtree(first.data_dir)
    restore(second, backup)
    after = asyncio.run(_trusted(second))
    installation, _ = asyncio.run(_read(second))

    assert before == after
    assert len(installation.store_id) == 16


def test_every_restore_makes_another_store_id(first: Settings, second: Settings, backup: Path) -> None:
    """Two restores of one backup are two stores."""
    ids = {asyncio.run(_read(first))[0].store_id, restore(second, backup).settled.store_id}
    ids.add(restore(second, backup, Choices(replace=True, forget_revocations=True)).settled.store_id)

    assert len(ids) == 3


def test_usable_tokens_are_revoked_unless_they_are_to_be_kept(second: Settings, backup: Path) -> None:
    """A use since the backup would be there again."""
    assert restore(second, backup).settled.tokens_revoked == 1
    assert asyncio.run(_read(second))[1] == ["t1 revoked"]

    restore(second, backup, Choices(replace=True, keep_tokens=True, forget_revocations=True))
    assert asyncio.run(_read(second))[1] == ["t1 active"]


def test_a_restore_that_would_resurrect_is_refused(second: Settings, backup: Path) -> None:
    """Nothing tells what was revoked since."""
    with pytest.raises(BackupError, match="--forget-revocations"):
        restore(second, backup, Choices())

    assert _left(second.data_dir) == []


def test_another_passphrase_opens_nothing_and_changes_nothing(second: Settings, backup: Path) -> None:
    """And says that it is the passphrase."""
    with pytest.raises(WrongPassphraseError, match="not the passphrase"):
        restore(second, backup, passphrase=b"another passphrase")

    assert _left(second.data_dir) == []


def test_a_file_that_was_cut_off_or_changed_changes_nothing(second: Settings, backup: Path) -> None:
    """Wherever it happened: nothing of it is used before all of it was seen."""
    whole = backup.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:-9] + b"x" + whole[-8:], b"", b"x" * 5000):
        backup.write_bytes(damaged)
        with pytest.raises(DamagedError):
            restore(second, backup)

    assert _left(second.data_dir) == []


def test_an_installation_is_not_restored_over_and_is_kept_when_it_is_to_be_replaced(
    first: Settings, backup: Path
) -> None:
    """Whoever is wrong about the host loses nothing."""
    (first.data_dir / "agent-ca.crt").write_text("another one")
    with pytest.raises(OccupiedError, match="--replace"):
        restore(first, backup)
    done = restore(first, backup, Choices(replace=True, forget_revocations=True))

    assert done.kept is not None
    assert _left(done.kept) == ["agent-ca.crt", "ct-ops.db"]
    assert (done.kept / "agent-ca.crt").read_text() == "another one"
    assert asyncio.run(_trusted(first))  # which makes nothing


def test_a_schema_that_is_newer_than_this_program_is_named(first: Settings, second: Settings) -> None:
    """The program of then can read it."""
    engine = sa.create_engine(f"sqlite:///{first.data_dir}/ct-ops.db")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    file = first.data_dir.parent / "newer"
    back_up(first, file)

    with pytest.raises(NewerBackupError, match="9999"):
        restore(second, file)


def test_a_backup_is_its_owners_and_never_takes_anothers_name(first: Settings, backup: Path) -> None:
    """It holds every key."""
    assert backup.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BackupError, match="name another file"):
        back_up(first, backup)


def test_a_backup_that_cannot_be_finished_leaves_nothing(
    first: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a file with half of it, nor the copy of the database that it was made of."""

    def full(_contents: object, _name: str, _path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making, "_add", full)
    with pytest.raises(BackupError, match="No space left"):
        back_up(first, tmp_path / "unfinished")

    assert _left(tmp_path) == ["first"]
    assert not [path for path in first.data_dir.iterdir() if path.name.startswith(".")]


def test_what_is_not_ours_is_left_out_and_said(first: Settings, second: Settings, tmp_path: Path) -> None:
    """Somebody's core dump must not keep a backup from being made, nor be in it."""
    (first.data_dir / "core").write_bytes(b"x" * 2_000_000)
    (first.data_dir / "with blanks").write_text("")
    made = make_backup(first, tmp_path / "backup", PASSPHRASE, now=NOON, cost=CHEAP)
    restore(second, tmp_path / "backup")

    assert ["core", "with blanks"] == sorted(path.name for path in made.left_out)
    assert not (second.data_dir / "core").exists()


def test_a_backup_is_not_kept_in_what_it_is_a_backup_of(first: Settings) -> None:
    """It would be lost with it, and be in the next one."""
    with pytest.raises(BackupError, match="elsewhere"):
        back_up(first, first.data_dir / "backup")


def test_half_a_restore_is_not_backed_up(first: Settings, tmp_path: Path) -> None:
    """It would look like a whole one."""
    (first.data_dir / "restoring").touch()
    with pytest.raises(BackupError, match="did not finish"):
        back_up(first, tmp_path / "backup")


def test_an_operators_certificate_is_put_where_there_is_none_and_otherwise_left_alone(tmp_path: Path) -> None:
    """The one that is there may be newer. A setting that is missing is asked for."""
    pair = {"INGEST_TLS_CERT": tmp_path / "old.crt", "INGEST_TLS_KEY": tmp_path / "old.key"}
    old = settings_in(tmp_path / "first")
    old.data_dir.mkdir(mode=0o700)
    asyncio.run(_fill(old))
    for path in pair.values():
        path.write_text("of the operator")
    old = replace(old, tls_cert=pair["INGEST_TLS_CERT"], tls_key=pair["INGEST_TLS_KEY"])
    back_up(old, tmp_path / "backup")
    (tmp_path / "new.crt").write_text("newer")
    new = settings_in(tmp_path / "second")
    with pytest.raises(BackupError, match="INGEST_TLS_CERT set"):
        restore(new, tmp_path / "backup")
    done = restore(
        replace(new, tls_cert=tmp_path / "new.crt", tls_key=tmp_path / "new.key"), tmp_path / "backup"
    )

    assert done.left_alone == (tmp_path / "new.crt",)
    assert (tmp_path / "new.crt").read_text() == "newer"
    assert (tmp_path / "new.key").read_text() == "of the operator"


@pytest.mark.parametrize(
    "name", ["data/release-key.pem", "data/backups/x", "data/replaced-1/x", "tls", "x/y"]
)
def test_an_entry_that_no_backup_of_ours_has_belongs_nowhere(first: Settings, name: str) -> None:
    """Whoever has the passphrase could write one."""
    with pytest.raises(DamagedError, match="belongs nowhere"):
        place_of(name, first)


def test_the_private_half_of_the_release_key_stays_where_it_is(
    first: Settings, second: Settings, tmp_path: Path
) -> None:
    """Whoever has it is the author of what the hosts run."""
    (first.data_dir / "release-key.pub").write_text("public")
    (first.data_dir / "release-key.pem").write_text("private")
    back_up(first, tmp_path / "keys")
    restore(second, tmp_path / "keys")

    assert (second.data_dir / "release-key.pub").read_text() == "public"
    assert not (second.data_dir / "release-key.pem").exists()


def test_keys_kept_elsewhere_go_back_to_where_the_settings_of_then_say(tmp_path: Path) -> None:
    """The secret, and the key of agent tokens."""
    old = settings_in(tmp_path / "first", INGEST_JWT_KEY_FILE=str(tmp_path / "old.pem"))
    old.data_dir.mkdir(mode=0o700)
    asyncio.run(_fill(old))
    back_up(old, tmp_path / "backup")
    new = settings_in(tmp_path / "second", INGEST_JWT_KEY_FILE=str(tmp_path / "new.pem"))
    restore(new, tmp_path / "backup")

    assert (tmp_path / "new.pem").read_bytes() == (tmp_path / "old.pem").read_bytes()
    assert asyncio.run(_trusted(new))  # which makes nothing


def test_a_restore_that_was_interrupted_is_no_installation_until_it_is_done_again(
    second: Settings, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that started on half of the keys would make the other half anew."""
    put, puts = placing.put, []

    def break_down(unpacked: Path, path: Path) -> None:
        puts.append(path)
        if len(puts) == 3:
            raise OSError(28, "No space left on device")
        put(unpacked, path)

    with monkeypatch.context() as broken:
        broken.setattr(placing, "put", break_down)
        with pytest.raises(BackupError, match="No space left"):
            restore(second, backup)
    with pytest.raises(AuthorityError, match="did not finish"):
        asyncio.run(_fill(second))
    restore(second, backup, Choices(replace=True, forget_revocations=True))

    assert asyncio.run(_trusted(second))
    assert not (second.data_dir / "restoring").exists()


def test_what_a_killed_process_left_of_a_copy_goes_with_the_next_one(first: Settings, backup: Path) -> None:
    """It was a copy of every secret. One that is in use stays."""
    left = first.data_dir / ".backup-left"
    left.mkdir()
    (left / "database").write_text("everything")
    with scratch_folder(first.data_dir) as in_use:
        (in_use / "database").write_text("everything")
        back_up(first, backup.with_name("another"))
        assert in_use.exists()

    assert not left.exists()


async def _write_audit_files(settings: Settings) -> None:
    async with open_core(settings, now=lambda: NOON) as core:
        await core.audit_follower().close()


def _examined(settings: Settings) -> tuple[list[str], set[str]]:
    """Return what is wrong with the audit files, and whose they are."""
    lines = list(read_all(audit_files(settings.data_dir / DIRECTORY)))
    keys = load_public_keys(settings.data_dir)
    owners = {each.record.installation for each in lines if isinstance(each.record, Anchor)}
    return [str(found) for found in examine(lines, keys=keys).breaks], owners


def test_the_audit_files_of_another_installation_go_aside_and_two_chains_never_mix(
    first: Settings, second: Settings, backup: Path
) -> None:
    """Outage: a backup is restored on the machine of another server; its own folder of then stays whole, elsewhere."""
    second.data_dir.mkdir(mode=0o700)
    other = asyncio.run(_fill(second))
    asyncio.run(_write_audit_files(second))
    with pytest.raises(OccupiedError, match="there is an installation already"):
        restore(second, backup, replace(FORGETTING, replace=False))
    done = restore(second, backup, replace(FORGETTING, replace=True))
    asyncio.run(_write_audit_files(second))

    assert done.audit_aside is not None
    assert done.audit_aside.name == f"audit-of-{other.id}"
    assert done.audit_aside.parent == done.kept
    assert len(audit_files(done.audit_aside)) == 1
    assert ([], {asyncio.run(_read(first))[0].id}) == _examined(second)


def test_the_audit_files_of_the_restored_one_come_where_those_of_another_were(
    first: Settings, second: Settings, backup: Path
) -> None:
    """With --audit: its chain goes on, and nothing of the other one is in it."""
    second.data_dir.mkdir(mode=0o700)
    asyncio.run(_fill(second))
    asyncio.run(_write_audit_files(second))
    asyncio.run(_write_audit_files(first))

    def told(about: About) -> Since | None:
        end = Link(about.audit_seq, bytes.fromhex(about.audit_hash))
        keys = [key for key in map(parse_key_hex, about.audit_keys) if key is not None]
        return read_since(first.data_dir / DIRECTORY, end, keys=keys, installation=about.installation_id)

    with backup.open("rb") as opened:
        done = return_backup(second, opened, PASSPHRASE, Choices(replace=True), told=told, now=NOON)
    asyncio.run(_write_audit_files(second))

    assert done.since is not None
    assert done.since.chain
    assert done.audit_aside is not None
    assert ([], {asyncio.run(_read(first))[0].id}) == _examined(second)


def test_attack_an_audit_file_that_names_a_path_as_its_installation(
    second: Settings, backup: Path, tmp_path: Path
) -> None:
    """It goes aside under a name that is only a name."""
    folder = second.data_dir / DIRECTORY
    folder.mkdir(mode=0o700, parents=True)
    (folder / "audit-00000001.jsonl").write_bytes(line_of(Anchor(START, 1, "../../../" + "x" * 300)))
    with pytest.raises(OccupiedError, match="audit files of another one"):
        restore(second, backup)
    done = restore(second, backup, replace(FORGETTING, replace=True))

    assert done.audit_aside is not None
    assert done.audit_aside.resolve().is_relative_to(second.data_dir)
    assert len(done.audit_aside.name) < 100
