"""The parent of prepared commands: a program of its own, which ``prepared_commands`` starts and asks.

It imports what commands import, once; then, for everything it is asked for on its socket, forks a child that is the
command: with its own arguments, environment, folder and standard streams, run as ``python -m MODULE`` runs it, and
ended as an interpreter ends. It has no thread and no event loop when it forks, so a child begins as a fresh process
does, less the second that importing takes.

A request is one packet: JSON, with four descriptors beside it. The first three become the standard streams; into the
fourth go two lines: the process id, and, when it has ended, the return code as ``subprocess`` writes it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PACKET = 512 * 1024
_LIBRARIES = (
    "aiosqlite",
    "alembic.autogenerate",
    "alembic.command",
    "alembic.context",
    "asyncpg",
    "httpx",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)
"""What commands import besides our modules, some of it by name and only when it is needed."""


@dataclass(frozen=True)
class Request:
    """A command that was asked for."""

    module: str
    arguments: list[str]
    environ: dict[str, str]
    folder: str
    streams: list[int]

    @classmethod
    def read(cls, packet: bytes, streams: list[int]) -> Request:
        """Read one."""
        said: dict[str, Any] = json.loads(packet)
        return cls(said["module"], said["arguments"], said["environ"], said["folder"], streams)


def prepare() -> None:
    """Import what commands import; the garbage collector of a child does not look at it again."""
    for name in (*_LIBRARIES, *modules_of("ct_ops_agent"), *modules_of("ct_ops_server")):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def modules_of(package: str) -> Iterator[str]:
    """Return the modules of a package; migrations are read by Alembic, and ``__main__`` is what is run."""
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith(".__main__") and ".migrations." not in module.name:
            yield module.name


def serve(requests: socket.socket) -> Request | None:
    """Fork a child for every request; return the request in the child, and None when the socket has closed.

    No child is left then.
    """
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    reports: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests.fileno(), wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            for pid, code in _ended():
                report = reports.pop(pid)
                _say(report, code)
                os.close(report)
        if requests.fileno() in ready:
            packet, descriptors, _, _ = socket.recv_fds(requests, _PACKET, 4)
            if not packet:
                break
            *streams, report = descriptors
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return Request.read(packet, streams)
            for stream in streams:
                os.close(stream)
            reports[pid] = report
            _say(report, pid)
    for pid in reports:
        os.kill(pid, signal.SIGKILL)
    return None


def become(request: Request) -> None:
    """Take over streams, environment and folder of the command; what else is open is the parent's."""
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
    os.closerange(3, 1 + max(int(each.name) for each in Path("/proc/self/fd").iterdir()))
    os.environ.clear()
    os.environ.update(request.environ)
    os.chdir(request.folder)
    random.seed()


def _ended() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):  # there is none
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found[0], os.waitstatus_to_exitcode(found[1])


def _say(report: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(report, f"{number}\n".encode())


if __name__ == "__main__":
    prepare()
    if request := serve(socket.socket(fileno=int(sys.argv[1]))):
        become(request)
        sys.argv = ["-m", *request.arguments]
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)
