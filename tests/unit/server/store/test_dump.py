"""A copy of a PostgreSQL database by its own tools, and the way back in one transaction."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from ct_ops_server.store import dump
from ct_ops_server.store.backup import BackupError, back_up, restore
from ct_ops_server.store.database_url import PostgresTarget, parse_database_url
from ct_ops_server.store.dump import dropping, environment_of, marking, read_dump
from ct_ops_server.store.errors import RestoreUnfinishedError
from ct_ops_server.store.migrations import UNSETTLED
from ct_ops_server.store.opening import open_store
from ct_ops_server.store.partition_names import is_partition
from databases import PostgresServer, drop_database, fresh_database

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def tools(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the tools that came with the server: older ones refuse it."""
    monkeypatch.setenv("PATH", f"{postgres.tools}:/usr/bin:/bin")


async def _run(url: str, *statements: str) -> None:
    async with open_store(url) as store, store.database.writing() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))


async def _tables(url: str) -> set[str]:
    async with open_store(url) as store, store.database.reading() as connection:
        return set(await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names()))


async def test_a_restored_database_is_what_it_was_and_what_it_replaces_is_kept(
    postgres_url: str, tmp_path: Path
) -> None:
    """Also where a newer version has changed tables; somebody else's table stays as it is."""
    await _run(postgres_url, "CREATE TABLE theirs (it TEXT)", "CREATE TABLE workers_of_old AS SELECT 1 AS n")
    before = await _tables(postgres_url)
    back_up(postgres_url, tmp_path / "copy.dump")
    await _run(
        postgres_url, "INSERT INTO theirs VALUES ('kept')", "ALTER TABLE workers ADD COLUMN newer TEXT"
    )
    done = restore(postgres_url, tmp_path / "copy.dump", now=NOON)

    assert await _tables(postgres_url) == before
    assert done.kept == tmp_path / "replaced-20260504T120000Z.dump"
    assert (tmp_path / "copy.dump").stat().st_mode & 0o777 == 0o600
    async with open_store(postgres_url) as store, store.database.reading() as connection:
        columns = await connection.run_sync(lambda sync: sa.inspect(sync).get_columns("workers"))
        theirs = (await connection.execute(sa.text("SELECT it FROM theirs"))).scalars().all()
    assert "newer" not in {column["name"] for column in columns}
    assert theirs == ["kept"]
    restore(postgres_url, done.kept, now=NOON.replace(hour=13))  # and forth again
    await _run(postgres_url, "UPDATE workers SET newer = 'is there'")


async def test_a_database_without_tables_has_no_copy_and_can_be_restored_into(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """A new database is given what the copy has."""
    other = await fresh_database(postgres.url)
    with pytest.raises(BackupError, match="no database yet"):
        back_up(other, tmp_path / "none.dump")
    await _run(postgres_url)
    back_up(postgres_url, tmp_path / "copy.dump")
    assert restore(other, tmp_path / "copy.dump", now=NOON).kept is None

    assert await _tables(other) == await _tables(postgres_url)
    await drop_database(other)


async def test_a_restore_that_fails_changes_nothing(postgres_url: str, tmp_path: Path) -> None:
    """Here somebody's view hangs on a table of ours: it is not dropped along."""
    await _run(postgres_url)
    back_up(postgres_url, tmp_path / "copy.dump")
    await _run(postgres_url, "CREATE VIEW theirs AS SELECT id FROM workers")
    (tmp_path / "text").write_text("no copy")
    before = await _tables(postgres_url)
    with pytest.raises(BackupError, match="pg_restore failed"):
        restore(postgres_url, tmp_path / "text", now=NOON)
    with pytest.raises(BackupError, match="there is no copy"):
        restore(postgres_url, tmp_path / "none", now=NOON)
    with pytest.raises(BackupError, match=r"(?s)psql failed, the database is as it was: .*theirs"):
        restore(postgres_url, tmp_path / "copy.dump", now=NOON.replace(hour=13))

    assert await _tables(postgres_url) == before


def test_without_a_client_a_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the password is in no sentence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="install PostgreSQL's client") as caught:
        back_up("postgresql://ops:secret@db/ops", tmp_path / "copy")

    assert "secret" not in str(caught.value)


def test_the_tools_are_told_everything_in_their_environment() -> None:
    """Where the database is, who asks, with which TLS; and nothing of a frozen program's library path."""
    target = parse_database_url(
        "postgresql://o:p%40ss@db:1/ops?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=3"
    )
    assert isinstance(target, PostgresTarget)
    said = environment_of(target, {"PATH": "/bin", "LD_LIBRARY_PATH": "/frozen", "PGDATABASE": "other"})

    assert said == {
        "PATH": "/bin",
        "PGHOST": "db",
        "PGPORT": "1",
        "PGUSER": "o",
        "PGPASSWORD": "p@ss",
        "PGDATABASE": "ops",
        "PGCONNECT_TIMEOUT": "3",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/ca.pem",
    }


async def test_a_command_that_loads_nothing_else_copies_every_table(postgres_url: str) -> None:
    """Tables are defined in several modules: none is missing because nobody has asked for it yet."""
    assert _known_alone() == {name for name in await _tables(postgres_url) if not is_partition(name)}


def _known_alone() -> set[str]:
    program = "from ct_ops_server.store.dump import our_tables; print(*our_tables())"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_tables_are_dropped_once_each_and_quoted() -> None:
    """Those that this version knows, and those of the copy."""
    assert 'IF EXISTS "agents", "theirs";' in dropping(["theirs", "agents", "theirs"])


async def test_a_database_whose_restore_was_interrupted_is_opened_by_no_server(
    postgres_url: str, tmp_path: Path
) -> None:
    """Its tables are there, and nobody who was revoked since is revoked in them."""
    await _run(postgres_url)
    back_up(postgres_url, tmp_path / "copy.dump")
    target = parse_database_url(postgres_url)
    assert isinstance(target, PostgresTarget)
    read_dump(target, tmp_path / "copy.dump", then=marking(UNSETTLED))

    with pytest.raises(RestoreUnfinishedError, match="ct-ops-server db restore"):
        await _run(postgres_url)


async def test_a_way_back_that_was_killed_before_it_decided_again_is_opened_by_no_server(
    postgres_url: str, tmp_path: Path
) -> None:
    """The copy lets in whom an operator revoked since: until that is done again it is nobody's, and then it is."""
    await _run(postgres_url)
    back_up(postgres_url, tmp_path / "copy.dump")

    def killed(_url: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(postgres_url, tmp_path / "copy.dump", now=NOON, settle=killed)
    with pytest.raises(RestoreUnfinishedError, match="ct-ops-server database restore"):
        await _run(postgres_url)
    half = restore(postgres_url, tmp_path / "copy.dump", now=NOON.replace(hour=13)).kept
    await _run(postgres_url)

    assert half is not None
    restore(postgres_url, half, now=NOON.replace(hour=14))  # what was kept of the half one is whole
    await _run(postgres_url)


async def test_a_way_back_does_not_wait_for_ever_for_somebody_who_reads(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten session of a report holds the tables: it is named as the reason, and nothing has changed."""
    monkeypatch.setattr(dump, "LOCK_PATIENCE_S", 1)
    await _run(postgres_url)
    back_up(postgres_url, tmp_path / "copy.dump")
    before = await _tables(postgres_url)
    async with open_store(postgres_url) as store, store.database.reading() as reader:
        await reader.execute(sa.text("BEGIN"))
        await reader.execute(sa.text("SELECT * FROM agents"))
        with pytest.raises(BackupError, match="pg_stat_activity"):
            await asyncio.wait_for(
                asyncio.to_thread(restore, postgres_url, tmp_path / "copy.dump", now=NOON), 60
            )
        await reader.execute(sa.text("ROLLBACK"))

    assert await _tables(postgres_url) == before
