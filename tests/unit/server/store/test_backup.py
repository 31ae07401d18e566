"""A copy of the database before an upgrade, and the way back to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from ct_ops_server.store.backup import BackupError, back_up, restore
from ct_ops_server.store.opening import open_store


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


def test_postgresql_has_its_own_tools(tmp_path: Path) -> None:
    """And a database that is not there yet has no copy."""
    with pytest.raises(BackupError, match="pg_dump"):
        back_up("postgresql://ops:secret@db/ops", tmp_path / "copy")
    with pytest.raises(BackupError, match="pg_restore"):
        restore("postgresql://ops:secret@db/ops", tmp_path / "copy")
    with pytest.raises(BackupError, match="no database yet"):
        back_up(f"sqlite:///{tmp_path}/none.db", tmp_path / "copy")
