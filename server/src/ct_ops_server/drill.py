"""A restore that is tried, not done: into a folder and a database that are gone afterwards, up to a server that answers.

What is proven, one sentence each: the file is whole and the passphrase is right; the database holds the rows that it
held; its schema is this program's; the keys are there and the secret opens them; a server with all of it
says that it is ready, and shows a certificate of the authority that agents believe. Nothing of this host's own installation is
read or written: every path of the settings is replaced.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import httpx

from ct_ops_server.app import Running, running_server
from ct_ops_server.backup.contents import About
from ct_ops_server.backup.errors import BackupError
from ct_ops_server.backup.returning import Choices, Returned, return_backup
from ct_ops_server.backup.scratch import scratch_folder
from ct_ops_server.backup.since import Since
from ct_ops_server.backup.unpacking import peek
from ct_ops_server.config.pem import PemSource
from ct_ops_server.config.schema import Settings
from ct_ops_server.store.scratch_database import scratch_database

_Done = TypeVar("_Done")
_READY_TIMEOUT_S = 30.0
_LONGEST_PATH = 85
_LOOPBACK = "127.0.0.1"
_MAY_BE_MADE = ("server.crt",)
"""Issued again for the names of this host, by the same authority."""


@dataclass(frozen=True, slots=True)
class Proven:
    """What a drill has shown, in sentences, what is to be known beside that, and how long it took."""

    sentences: tuple[str, ...]
    note: str
    seconds: float


async def drill(
    settings: Settings,
    backup: BinaryIO,
    passphrase: bytes,
    *,
    told: Callable[[About], Since | None],
    now: Callable[[], datetime],
) -> Proven:
    """Restore the backup where nobody is, start a server with it, and take everything away again.

    Raises:
        BackupError: something could not be proven; says what.
        AuthorityError, StoreError, SchemaNewerError: as a server that is started with it.
    """
    began = asyncio.get_running_loop().time()
    about = peek(backup, passphrase)
    with _folder() as folder:
        async with _database(settings, about, folder) as url:
            scratch = _scratch_settings(settings, about, folder, url)
            scratch.data_dir.mkdir(mode=0o700)
            choices = Choices(forget_revocations=True, keep_tokens=True, actor="drill")
            done = await _to_its_end(
                partial(return_backup, scratch, backup, passphrase, choices, told=told, now=now())
            )
            made: list[str] = []
            async with running_server(scratch, announce=made.append, now=now) as running:
                _refuse_new_keys(made)
                sentences = (*_of_contents(done), *await _of_server(running, scratch))
    return Proven(sentences, _of_replay(done), asyncio.get_running_loop().time() - began)


async def _to_its_end(work: Callable[[], _Done]) -> _Done:
    """Do work in a thread. Whoever is interrupted waits for it: it would write again into the folder that goes."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    finally:
        await asyncio.wait([working])


@contextmanager
def _folder() -> Iterator[Path]:
    with scratch_folder(Path(tempfile.gettempdir()), prefix="ct-ops-drill-") as folder:
        # A server has a socket in it, whose path the system limits to 107 bytes.
        if len(str(folder)) > _LONGEST_PATH:
            raise BackupError(f"{folder.parent} is too long a path for a drill: set TMPDIR to a shorter one")
        yield folder


@asynccontextmanager
async def _database(settings: Settings, about: About, folder: Path) -> AsyncIterator[str]:
    if about.engine == "sqlite":
        yield f"sqlite:///{folder}/data/ct-ops.db"
        return
    if not settings.database_url.startswith("postgres"):
        raise BackupError(
            "the backup is of a PostgreSQL database: set DATABASE_URL to a PostgreSQL server for the drill"
        )
    async with scratch_database(settings.database_url) as url:
        yield url


def _scratch_settings(settings: Settings, about: About, folder: Path, url: str) -> Settings:
    """Return settings under which a server finds the restored files, and no port or file of this host's."""

    def place(name: str) -> Path | None:
        return folder / name if name in about.entries else None

    return replace(
        settings,
        database_url=url,
        data_dir=folder / "data",
        secret_file=folder / "data" / "secret",
        jwt_key_file=folder / "data" / "jwt_key.pem",
        tls_cert=place("tls-cert"),
        tls_key=place("tls-key"),
        tls_ca=place("tls-ca"),
        agent_ca_cert=_pem(place("agent-ca-cert"), settings.agent_ca_cert),
        agent_ca_key=_pem(place("agent-ca-key"), settings.agent_ca_key),
        web_server_cert=None,
        web_tls_cert=None,
        agent_dist_dir=folder / "shelf",
        grpc_host=_LOOPBACK,
        grpc_port=0,
        http_host=_LOOPBACK,
        http_port=0,
        workers=1,
        proxy_protocol_networks=(),
    )


def _pem(restored: Path | None, said: PemSource | None) -> PemSource | None:
    """Return where the authority of the operator is: in the backup, or what the environment says itself."""
    if restored is not None:
        return PemSource(restored)
    return said if said is not None and said.path is None else None


def _refuse_new_keys(announced: list[str]) -> None:
    made = [each for each in announced if each.startswith("made ")]
    if missing := [each for each in made if not any(name in each for name in _MAY_BE_MADE)]:
        raise BackupError(f"the backup lacks what a server had to make anew: {'; '.join(missing)}")


def _of_contents(done: Returned) -> list[str]:
    about = done.about
    made, rows = datetime.fromtimestamp(about.made_at_ms / 1000, UTC), sum(about.counts.values())
    return [
        f"the file is whole, and this is its passphrase: {len(about.entries)} entries, each with its digest",
        f"it was made at {made:%Y-%m-%d %H:%M:%S} UTC by version {about.made_by}",
        f"the database holds the {rows} rows that it held, of {about.counts.get('agents', 0)} agents",
        f"its schema {about.schema} is, or became, the one of this program",
    ]


def _of_replay(done: Returned) -> str:
    if done.since is None:
        return (
            "nothing here tells what was revoked or deleted since: a restore would need --forget-revocations"
        )
    again = ", ".join(f"{count} {what}" for what, count in done.settled.replayed.items()) or "nothing"
    note = f"since then the audit log tells of: {again}"
    if done.since.flaw:
        note += f"; not of everything, so a restore would need --forget-revocations: {done.since.flaw}"
    if done.since.disbelieved:
        note += (
            f"; {len(done.since.disbelieved)} more entries would not be believed, as nobody vouches for them"
        )
    return note


async def _of_server(running: Running, scratch: Settings) -> list[str]:
    """Ask the server whether it is ready, and look at what it shows to agents."""
    async with httpx.AsyncClient(timeout=_READY_TIMEOUT_S) as client:
        answer = await client.get(f"http://{_LOOPBACK}:{running.http_port}/readyz")
    if answer.status_code != httpx.codes.OK:
        raise BackupError(f"a server with this backup is not ready: {answer.text}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is asked by another name than agents use
    named = scratch.tls_ca or scratch.tls_cert
    for believed in (
        [named] if named else scratch.data_dir.glob("server-ca*.crt")
    ):  # several during a rotation
        context.load_verify_locations(str(believed))
    try:
        _, writer = await asyncio.open_connection(_LOOPBACK, running.grpc_port, ssl=context)
    except ssl.SSLError as error:
        raise BackupError(f"agents would not believe a server with this backup: {error}") from error
    writer.close()
    return [
        "the secret opens every key, and no key had to be made",
        "a server started with it, said that it is ready, and shows a certificate that agents believe",
    ]
