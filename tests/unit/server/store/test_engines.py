"""How databases are opened: modes of SQLite's files, rule 17, and connections that a restart of PostgreSQL closed."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.store import engines
from ct_ops_server.store.database import Database
from ct_ops_server.store.database_url import Target, parse_database_url
from ct_ops_server.store.opening import open_store


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def careless_copy(folder: Path) -> Path:
    path = folder / "ct-ops.db"
    path.touch()
    path.chmod(0o644)
    folder.chmod(0o755)
    return path


async def test_the_files_of_sqlite_are_for_their_owner_only(tmp_path: Path) -> None:
    """The file, its companions and the folder made for them are closed to others while in use."""
    folder = tmp_path / "data"
    async with open_store(f"sqlite:///{folder}/ct-ops.db"):
        modes = {path.name: mode(path) for path in [folder, *folder.iterdir()]}

    assert {"data": 0o700, "ct-ops.db": 0o600, "ct-ops.db-shm": 0o600, "ct-ops.db-wal": 0o600} == modes


async def test_a_database_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    """A file that was restored with a careless umask is tightened; the folder is not ours to change."""
    path = careless_copy(tmp_path)
    async with open_store(f"sqlite:///{path}"):
        pass

    assert (0o600, 0o755) == (mode(path), mode(tmp_path))


async def test_a_database_that_cannot_be_created_is_unavailable(tmp_path: Path) -> None:
    """A file where the folder should be is an outage with a reason, not a traceback."""
    (tmp_path / "data").write_text("not a folder")

    with pytest.raises(StoreUnavailableError):
        await Database.open(f"sqlite:///{tmp_path}/data/ct-ops.db")


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """Whatever lies there is left as it is."""
    path = tmp_path / "ct-ops.db"
    path.write_text("a shopping list, long enough to look like a page of something " * 20)
    before = path.read_text()

    with pytest.raises(StoreUnavailableError):
        await Database.open(f"sqlite:///{path}")
    assert before == path.read_text()


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return parse_database_url(f"sqlite:///{tmp_path}/rule-17.db")


async def test_concurrent_read_modify_write_loses_nothing(target: Target) -> None:
    """Rule 17: writers take the lock before they read, so each sees the last one's result."""
    writers = [engines.write_engine(target) for _ in range(4)]
    async with writers[0].begin() as connection:
        await connection.execute(sa.text("CREATE TABLE counter (value INTEGER)"))
        await connection.execute(sa.text("INSERT INTO counter VALUES (0)"))

    async def count(engine: AsyncEngine) -> None:
        for _ in range(25):
            async with engine.begin() as connection:
                value = await connection.scalar(sa.text("SELECT value FROM counter"))
                await asyncio.sleep(0)
                await connection.execute(sa.text("UPDATE counter SET value = :next"), {"next": value + 1})

    await asyncio.gather(*(count(engine) for engine in writers))
    async with writers[0].begin() as connection:
        assert 100 == await connection.scalar(sa.text("SELECT value FROM counter"))
    for engine in writers:
        await engine.dispose()


async def test_readers_see_the_last_commit_while_a_writer_works(target: Target) -> None:
    """A reader neither waits for the writer nor sees what is not committed."""
    writer, reader = engines.write_engine(target), engines.read_engine(target)
    async with writer.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE t (value INTEGER)"))
    async with writer.begin() as connection:
        await connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        async with reader.connect() as reading:
            during = await reading.scalar(sa.text("SELECT count(*) FROM t"))
    async with reader.connect() as reading:
        after = await reading.scalar(sa.text("SELECT count(*) FROM t"))
    await writer.dispose()
    await reader.dispose()

    assert (0, 1) == (during, after)


async def test_a_reader_cannot_write(target: Target) -> None:
    """What is meant to read has no way to do otherwise."""
    writer, reader = engines.write_engine(target), engines.read_engine(target)
    async with writer.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE t (value INTEGER)"))

    with pytest.raises(OperationalError):
        async with reader.connect() as connection:
            await connection.execute(sa.text("INSERT INTO t VALUES (1)"))
    await writer.dispose()
    await reader.dispose()


async def test_a_commit_is_durable_before_it_is_acknowledged(target: Target) -> None:
    """WAL with synchronous=FULL, and foreign keys that are enforced."""
    engine = engines.write_engine(target)
    async with engine.begin() as connection:
        settings = [
            await connection.scalar(sa.text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    await engine.dispose()

    assert ["wal", 2, 1] == settings


async def test_outage_a_connection_that_was_closed_a_moment_after_its_use_is_replaced(
    postgres_url: str,
) -> None:
    """A database that is restarted under a busy server: the first question after it is answered."""
    database = await Database.open(postgres_url)
    try:
        async with database.reading() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            used = await connection.scalar(sa.text("SELECT pg_backend_pid()"))
        async with database.writing() as connection:
            await connection.execute(sa.text(f"SELECT pg_terminate_backend({used}, 30000)"))
        async with asyncio.timeout(30):
            while not driver.is_closed():  # noqa: ASYNC110  there is no event to wait for
                await asyncio.sleep(0.01)
        async with database.reading() as connection:
            assert used != await connection.scalar(sa.text("SELECT pg_backend_pid()"))
    finally:
        await database.dispose()
