"""A server that is backed up, goes on, is destroyed, and is restored somewhere empty: with everybody who knew it."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from ct_ops_server.audit.entries import Entry, Link
from ct_ops_server.audit.keys import parse_key_hex
from ct_ops_server.audit.reading import DIRECTORY
from ct_ops_server.backup.contents import About
from ct_ops_server.backup.envelope import Cost
from ct_ops_server.backup.making import make_backup
from ct_ops_server.backup.returning import Choices, Returned, return_backup
from ct_ops_server.backup.since import Since, read_since
from ct_ops_server.config.schema import Settings
from ct_ops_server.store.audit_reading import SqlAuditStore
from ct_ops_server.store.opening import open_store
from real_server import RealServer, real_server, settings_for

PASSPHRASE = b"correct horse battery"
_CHEAP = Cost(log_n=4)


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Site:
    """Where a server is, and where its backups are kept."""

    folder: Path
    settings: Settings

    @property
    def file(self) -> Path:
        """The backup."""
        return self.folder / "night.backup"

    @property
    def audit(self) -> Path:
        """Where audit files are kept, elsewhere."""
        return self.folder / "audit"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[RealServer]:
        """Run the server, always at the same port."""
        async with real_server(self.settings) as server:
            yield server

    async def back_up(self) -> None:
        """Write the backup, whether the server runs or not."""
        now = datetime.now(UTC)
        await asyncio.to_thread(make_backup, self.settings, self.file, PASSPHRASE, now=now, cost=_CHEAP)

    async def destroy(self) -> None:
        """Lose the machine."""
        shutil.rmtree(self.settings.data_dir)
        if self.settings.database_url.startswith("postgresql"):
            connection = await asyncpg.connect(self.settings.database_url)
            await connection.execute("DROP SCHEMA public CASCADE")
            await connection.execute("CREATE SCHEMA public")
            await connection.close()

    def keep_audit_files(self) -> None:
        """Copy the audit files off the machine, as far as they reach now: to the end, of a server that was stopped."""
        shutil.copytree(self.settings.data_dir / DIRECTORY, self.audit)

    async def chain(self) -> Sequence[Entry]:
        """Return the audit log of the database."""
        async with open_store(self.settings.database_url) as store:
            return await SqlAuditStore(store.database).entries_after(0, limit=10_000)

    async def restore(self, choices: Choices | None = None) -> Returned:
        """Restore the backup into what is there now, with the audit files if any were kept."""
        self.settings.data_dir.mkdir(mode=0o700, exist_ok=True)

        def told(about: About) -> Since | None:
            end = Link(about.audit_seq, bytes.fromhex(about.audit_hash))
            return read_since(
                self.audit,
                end,
                keys=[key for key in map(parse_key_hex, about.audit_keys) if key is not None],
                installation=about.installation_id,
                forgiving=(choices or Choices()).forget_revocations,
            )

        def work() -> Returned:
            with self.file.open("rb") as backup:
                return return_backup(
                    self.settings, backup, PASSPHRASE, choices or Choices(), told=told, now=datetime.now(UTC)
                )

        return await asyncio.to_thread(work)


def new_site(folder: Path, database_url: str) -> Site:
    """Return a site whose server has one port for its life."""
    settings = settings_for(folder / "server", database_url)
    return Site(folder, replace(settings, grpc_port=free_port()))
