"""A server of one's own for a bench: on loopback, with its database, in processes whose CPU and memory can be read.

Everything is started here, is ended here, and leaves nothing: a data directory and a PostgreSQL cluster in folders of their own.
The port stays the same over a restart, as it does for real.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil

from ct_ops_loadtest.connection import Server
from ct_ops_loadtest.plan import Target
from ct_ops_loadtest.tls import Trust
from ct_ops_proto.enrolment_token import parse_token

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from databases import fresh_database, postgres_server

START_S = 60.0
_STOP_S = 60.0


@dataclass
class Installation:
    """A server that runs, and what it is made of."""

    environ: dict[str, str]
    workers: int
    database: str
    cluster: Path | None
    """PostgreSQL's folder; None: SQLite."""
    agent_port: int
    process: asyncio.subprocess.Process | None = None
    http_port: int = 0
    token: str = field(default="", repr=False)
    _admin: httpx.AsyncClient | None = None

    @property
    def data_dir(self) -> Path:
        """The server's."""
        return Path(self.environ["INGEST_DATA_DIR"])

    @property
    def target(self) -> Target:
        """For virtual agents."""
        trust = Trust((self.data_dir / "server-ca.crt").read_text())
        return Target(Server("localhost", self.agent_port), trust, parse_token(self.token).secret)

    async def start(self) -> float:
        """Start the server; return the seconds until it was ready."""
        began_s = time.monotonic()
        more = ["--workers", str(self.workers)] if self.workers > 1 else []
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ct_ops_server",
            "serve",
            *more,
            env=self.environ,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(START_S):
            while "http_port" not in (said := dict(re.findall(r"(\w+)=(\d+)", (await self._line())))):
                pass
        self.http_port = int(said["http_port"])
        return time.monotonic() - began_s

    async def _line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise SystemExit("the server did not start; what it said is above")
        return line.decode()

    async def stop(self) -> None:
        """End the server as a service manager does."""
        if self._admin is not None:
            await self._admin.aclose()
            self._admin = None
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), _STOP_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        self.process = None

    async def ask(self, method: str, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
        """Ask the admin API."""
        if self._admin is None:  # a client costs as much as thirty questions
            transport = httpx.AsyncHTTPTransport(uds=str(self.data_dir / "admin.sock"))
            self._admin = httpx.AsyncClient(transport=transport, timeout=60)
        response = await self._admin.request(method, f"http://ct-ops/v1/{path}", json=body)
        response.raise_for_status()
        answer: dict[str, object] = response.json()
        return answer

    async def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        async with httpx.AsyncClient(timeout=30) as client:
            text = (await client.get(f"http://127.0.0.1:{self.http_port}/metrics")).text
        return sum(
            float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        )

    def server_cpu_s(self) -> float:
        """Return what the server's processes have used."""
        return tree_cpu_s(self.process.pid) if self.process else 0.0

    def database_cpu_s(self) -> float:
        """Return what PostgreSQL's processes have used; SQLite's work is the server's."""
        if self.cluster is None:
            return 0.0
        return tree_cpu_s(int((self.cluster / "postmaster.pid").read_text().split()[0]))

    def memory_bytes(self) -> int:
        """Return the resident memory of the server's processes."""
        assert self.process is not None
        return sum(process.memory_info().rss for process in tree(self.process.pid))


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def tree_cpu_s(pid: int) -> float:
    """Return the CPU of a process and all below it, ended children included."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    times = psutil.Process(pid).cpu_times()
    return float(total + times.children_user + times.children_system)


@asynccontextmanager
async def installation(database: str, *, workers: int = 1) -> AsyncIterator[Installation]:
    """Run a server with an empty database for as long as the block lasts."""
    with (
        tempfile.TemporaryDirectory(prefix="ct-ops-bench-") as folder,
        contextlib.ExitStack() as stack,
        _free_port() as port,
    ):
        cluster, environ = None, _environ(Path(folder), port)
        if database == "postgresql":
            url = stack.enter_context(postgres_server()).url
            cluster = Path(parse_qs(urlsplit(url).query)["host"][0])
            environ["DATABASE_URL"] = await fresh_database(url)
        made = Installation(environ, workers, database, cluster, port)
        try:
            await made.start()
            token = await made.ask(
                "POST", "tokens", {"actor": "bench", "label": "bench", "auto_approve": True}
            )
            made.token = str(token["token"])
            yield made
        finally:
            await made.stop()


def _environ(folder: Path, port: int) -> dict[str, str]:
    return dict(os.environ) | {
        "INGEST_DATA_DIR": str(folder / "server"),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": str(port),
        "INGEST_HTTP_PORT": "0",
        "INGEST_LOG_LEVEL": "warning",
    }


@contextmanager
def _free_port() -> Iterator[int]:
    """A port below those that clients get, so that none of ten thousand has it when the server comes back."""
    for port in range(19_443, 32_000, 7):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
        return
    raise SystemExit("no port is free")
