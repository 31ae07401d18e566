"""A drill: a backup is proven on a machine that has nothing, and nothing is left of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.backup.errors import BackupError, DamagedError, WrongPassphraseError
from ct_ops_server.backup.since import Since
from ct_ops_server.drill import Proven, drill
from databases import PostgresServer
from restored_world import PASSPHRASE, Site, new_site


@pytest.fixture
async def site(
    tmp_path: Path,
    database_url: str,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    """A machine with a backup of a server that had a host; its temporary files are the test's to look at."""
    elsewhere = tempfile.mkdtemp(prefix="drill-")  # short: a server has a socket in it
    monkeypatch.setenv("PATH", f"{postgres.tools}:/usr/bin:/bin")
    monkeypatch.setattr(tempfile, "tempdir", elsewhere)
    url = database_url if database_url.startswith("postgresql") else ""
    site = new_site(tmp_path, url)
    async with site.serving() as server:
        await server.enrolled("web-1")
        await site.back_up()
    yield site
    shutil.rmtree(elsewhere, ignore_errors=True)


async def tried(site: Site, passphrase: bytes = PASSPHRASE, since: Since | None = None) -> Proven:
    with site.file.open("rb") as backup:
        return await drill(
            site.settings, backup, passphrase, told=lambda _: since, now=lambda: datetime.now(UTC)
        )


def left_behind() -> list[Path]:
    return list(Path(tempfile.gettempdir()).iterdir())


async def databases_of_drills(site: Site) -> list[str]:
    if not site.settings.database_url.startswith("postgresql"):
        return []
    connection = await asyncpg.connect(site.settings.database_url)
    rows = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'ct_ops_drill%'")
    await connection.close()
    return [str(row["datname"]) for row in rows]


async def test_a_drill_proves_a_backup_up_to_a_server_that_is_ready_and_leaves_nothing(site: Site) -> None:
    """The machine's own installation is lost; the drill needs nothing of it."""
    await site.destroy()
    (Path(tempfile.gettempdir()) / "ct-ops-drill-killed").mkdir()  # by SIGKILL: goes with the next one
    proven = await tried(site)

    assert "a server started with it, said that it is ready" in proven.sentences[-1]
    assert any("of 1 agents" in sentence for sentence in proven.sentences)
    assert "--forget-revocations" in proven.note
    assert left_behind() == []
    assert await databases_of_drills(site) == []
    assert not site.settings.data_dir.exists()


async def test_a_drill_of_a_bad_backup_says_what_is_wrong_and_leaves_nothing(site: Site) -> None:
    """Which is what drills are for. The server beside it is not disturbed."""
    whole = site.file.read_bytes()
    with pytest.raises(WrongPassphraseError):
        await tried(site, b"another passphrase")
    site.file.write_bytes(whole[:-20])
    with pytest.raises(DamagedError):
        await tried(site)
    (site.settings.data_dir / "agent-ca.key").unlink()
    site.file.unlink()
    await site.back_up()
    with pytest.raises(AuthorityError, match="agent-ca"):
        await tried(site)

    assert left_behind() == []
    assert await databases_of_drills(site) == []


async def test_a_folder_whose_path_is_too_long_for_a_socket_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of what the system says of a socket."""
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(BackupError, match="TMPDIR"):
        await tried(site)

    assert list(deep.iterdir()) == []
