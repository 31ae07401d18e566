"""A copy of the database before an upgrade, and the way back to it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from ct_ops_server.cli.database import what_is_missing
from ct_ops_server.store.backup import BackupError, Restored, back_up, forget_old_copies
from ct_ops_server.store.backup import restore as restore_at
from ct_ops_server.store.migrations import HEAD
from ct_ops_server.store.opening import migrate, open_store

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def postgres_url(empty_postgres_url: str) -> str:
    """Nobody has migrated it yet."""
    return empty_postgres_url


def restore(url: str, copy: Path) -> Restored:
    return restore_at(url, copy, now=NOON)


def _store_id(file: Path) -> bytes:
    with closing(sqlite3.connect(file)) as database:
        return bytes(database.execute("SELECT store_id FROM installation").fetchone()[0])


def _unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ct-ops.db"


async def _mark(url: str, text: str) -> None:
    async with open_store(url) as store, store.database.writing() as connection:
        await connection.execute(sa.text("CREATE TABLE IF NOT EXISTS marks (mark TEXT)"))
        await connection.execute(sa.text("INSERT INTO marks VALUES (:mark)"), {"mark": text})


def _marks(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as database:
        return [row[0] for row in database.execute("SELECT mark FROM marks")]


async def test_a_restored_database_is_what_it_was_and_opens(url: str, tmp_path: Path) -> None:
    """What came after the copy is gone, also what was only in the log."""
    await _mark(url, "before")
    back_up(url, tmp_path / "copy")
    await _mark(url, "after")
    (tmp_path / "ct-ops.db-wal").write_bytes(b"left of the other one")
    restore(url, tmp_path / "copy")

    assert _marks(tmp_path / "ct-ops.db") == ["before"]
    await _mark(url, "goes on")
    assert _marks(tmp_path / "ct-ops.db") == ["before", "goes on"]
    assert (tmp_path / "ct-ops.db").stat().st_mode & 0o777 == 0o600


async def test_a_copy_is_made_while_a_server_writes_and_is_its_owners(url: str, tmp_path: Path) -> None:
    """With what was committed, and nothing left beside it."""
    await _mark(url, "one")
    async with open_store(url):
        back_up(url, tmp_path / "copy")

    assert _marks(tmp_path / "copy") == ["one"]
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert _unfinished(tmp_path) == []


async def test_a_copy_never_replaces_another(url: str, tmp_path: Path) -> None:
    """It may be the only way back."""
    await _mark(url, "one")
    (tmp_path / "copy").write_text("precious")
    with pytest.raises(BackupError, match="is there already"):
        back_up(url, tmp_path / "copy")

    assert (tmp_path / "copy").read_text() == "precious"
    assert _unfinished(tmp_path) == []


async def test_something_else_is_not_restored(url: str, tmp_path: Path) -> None:
    """The database stays as it is."""
    await _mark(url, "kept")
    (tmp_path / "text").write_text("no database")
    with closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE anything (it)")
    for name, said in (("text", "no copy"), ("other", "no copy"), ("none", "there is no copy")):
        with pytest.raises(BackupError, match=said):
            restore(url, tmp_path / name)

    assert _marks(tmp_path / "ct-ops.db") == ["kept"]


async def test_going_back_throws_nothing_away_and_says_what_is_missing(url: str, tmp_path: Path) -> None:
    """The database that is replaced is kept, with its log, and what only it has is counted."""
    await _mark(url, "before")
    await _add_token(url, "old")
    back_up(url, tmp_path / "copy")
    await _mark(url, "after")
    await _add_token(url, "new")
    done = restore(url, tmp_path / "copy")

    assert done == Restored(tmp_path / "ct-ops.db.replaced-20260504T120000Z", {"enrolment token": 1})
    assert done.kept is not None
    assert _marks(done.kept) == ["before", "after"]
    assert done.kept.stat().st_mode & 0o777 == 0o600
    (said,) = what_is_missing(done)
    assert "1 enrolment token;" in said
    assert str(done.kept) in said


async def test_a_database_that_is_broken_or_gone_can_be_restored_all_the_same(
    url: str, tmp_path: Path
) -> None:
    """Then there is nothing to count, and what is broken is kept as it is."""
    await _mark(url, "before")
    back_up(url, tmp_path / "copy")
    (tmp_path / "ct-ops.db").write_bytes(b"broken" * 1000)
    done = restore(url, tmp_path / "copy")
    assert _marks(tmp_path / "ct-ops.db") == ["before"]
    assert done.kept is not None
    assert done.kept.read_bytes() == b"broken" * 1000
    assert "what arrived since" in what_is_missing(done)[0]

    (tmp_path / "ct-ops.db").unlink()
    assert restore(url, tmp_path / "copy") == Restored(None)
    assert what_is_missing(Restored(None)) == []
    assert _marks(tmp_path / "ct-ops.db") == ["before"]


async def test_migrating_says_from_where_to_where(database_url: str) -> None:
    """And a second time that there was nothing to do."""
    assert await migrate(database_url) == (None, HEAD)
    assert await migrate(database_url) == (HEAD, HEAD)


def test_a_database_that_is_not_there_has_no_copy(tmp_path: Path) -> None:
    """Which an installation tells from a copy that failed."""
    with pytest.raises(BackupError, match="no database yet"):
        back_up(f"sqlite:///{tmp_path}/none.db", tmp_path / "copy")


async def _add_token(url: str, label: str) -> None:
    row = {"id": label, "label": label, "digest": label.encode()}
    async with open_store(url) as store, store.database.writing() as connection:
        await connection.execute(
            sa.text(
                "INSERT INTO tokens (id, digest, label, auto_approve, tags, uses, created_at, created_by) "
                "VALUES (:id, :digest, :label, 0, '{}', 0, 0, 'root')"
            ),
            row,
        )


async def test_what_is_gone_back_to_is_another_store(url: str, tmp_path: Path) -> None:
    """So agents deliver again what they retained since."""
    async with open_store(url) as store:
        before = (await store.installation.open()).store_id
    back_up(url, tmp_path / "copy")
    restore(url, tmp_path / "copy")

    assert before == _store_id(tmp_path / "copy")
    assert before != _store_id(tmp_path / "ct-ops.db")


def test_of_copies_for_upgrades_the_newest_are_kept(tmp_path: Path) -> None:
    """What was put aside by a way back is none of them."""
    for number in range(5):
        copy = tmp_path / f"before-{number}.db"
        copy.write_text("")
        os.utime(copy, (number, number))
    (tmp_path / "replaced-20260504T120000Z.dump").write_text("")
    gone = forget_old_copies(tmp_path)

    assert {"before-0.db", "before-1.db"} == {old.name for old in gone}
    assert 4 == len(list(tmp_path.iterdir()))
