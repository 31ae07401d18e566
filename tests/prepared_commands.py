"""Commands of ours without the second that an interpreter takes to import them.

A command started here is a process: a child that ``prepared_parent`` forks, with arguments, environment, standard
streams, exit code and signals of its own. It differs from ``python -m MODULE`` in what is imported before it begins.
A test stays with ``subprocess`` when that matters to it: what a command imports, how a list of processes shows it, the
limits of the shell that it runs in, or that people start it like this.

* ``run``     runs a command to its end, as ``subprocess.run`` does; ``finished`` beside a server in this process
* ``start``   starts one that can be read, signalled and waited for, as ``asyncio.create_subprocess_exec`` does
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_PATIENCE_S = 60.0
_PARENT = Path(__file__).with_name("prepared_parent.py")


class Child:
    """A process that the parent forked: its end is known once the parent has told it."""

    def __init__(self, report: int) -> None:
        self._report = os.fdopen(report, "rb", buffering=0)
        self.pid = self._number()
        self.returncode: int | None = None

    def fileno(self) -> int:
        """Return what can be read once it has ended."""
        return self._report.fileno()

    def wait(self, timeout_s: float | None = None) -> int:
        """Return its return code when it has ended.

        Raises:
            TimeoutError: it has not, within the time.
        """
        if self.returncode is None:
            if not select.select([self], [], [], timeout_s)[0]:
                raise TimeoutError(f"process {self.pid} has not ended within {timeout_s} s")
            self.returncode = self._number()
            self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        try:
            self.wait(0)
        except TimeoutError:
            os.kill(self.pid, number)

    def _number(self) -> int:
        line = self._report.readline()
        assert line, "the parent of prepared commands has ended"
        return int(line)


class Started:
    """A command that runs; what ``asyncio.subprocess.Process`` is to a program."""

    def __init__(self, child: Child, stdout: asyncio.StreamReader | None) -> None:
        self._child = child
        self.stdout = stdout

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, if that was waited for."""
        return self._child.returncode

    async def wait(self) -> int:
        """Return its return code when it has ended."""
        if self._child.returncode is None:
            loop, has_ended = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(self._child.fileno(), has_ended.set)
            try:
                await has_ended.wait()
            finally:
                loop.remove_reader(self._child.fileno())
        return self._child.wait(0)

    async def communicate(self) -> bytes:
        """Return everything it says from now on, when it has ended."""
        said = await self.stdout.read() if self.stdout else b""
        await self.wait()
        return said

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        self._child.send_signal(number)

    def terminate(self) -> None:
        """Ask it to stop, unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def run(
    module: str, *arguments: str, environ: Mapping[str, str], said: str = "", timeout_s: float = _PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; ``said`` is its standard input.

    Raises:
        TimeoutError: it took too long, and was killed.
    """
    streams = [_file(said.encode()), _file(), _file()]
    try:
        child = _fork(module, arguments, environ, streams)
        try:
            code = child.wait(timeout_s)
        except TimeoutError:
            child.send_signal(signal.SIGKILL)
            child.wait()
            raise
        out, err = map(_content, streams[1:])
    finally:
        for stream in streams:
            os.close(stream)
    return subprocess.CompletedProcess([module, *arguments], code, out, err)


async def finished(
    module: str, *arguments: str, environ: Mapping[str, str], said: str = "", timeout_s: float = _PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, while the event loop goes on.

    Raises:
        TimeoutError: it took too long, and was killed.
    """
    return await asyncio.to_thread(run, module, *arguments, environ=environ, said=said, timeout_s=timeout_s)


async def start(
    module: str, *arguments: str, environ: Mapping[str, str], reads: bool = True, with_errors: bool = False
) -> Started:
    """Start a command, whose standard output is read here if one ``reads`` it, ``with_errors`` among it.

    Standard input has nothing to say; what is not read is not kept.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    reading, writing = os.pipe() if reads else (None, os.dup(nothing))
    try:
        streams = [nothing, writing, writing if with_errors else nothing]
        child = await asyncio.to_thread(_fork, module, arguments, environ, streams)
    finally:
        os.close(nothing)
        os.close(writing)
    return Started(child, None if reading is None else await _reader(reading))


class _Parent:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", str(_PARENT), str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def fork(self, request: bytes, streams: list[int]) -> Child:
        """Fork a child on these streams."""
        report, theirs = os.pipe()
        try:
            socket.send_fds(self._requests, [request], [*streams, theirs])
        finally:
            os.close(theirs)
        return Child(report)

    def end(self) -> None:
        """Let it end."""
        self._requests.close()
        self._process.wait(_PATIENCE_S)


_while_made = threading.Lock()  # commands are run from threads, and need one parent


def _fork(module: str, arguments: tuple[str, ...], environ: Mapping[str, str], streams: list[int]) -> Child:
    with _while_made:
        parent = _parent()
    said = {"module": module, "arguments": arguments, "environ": dict(environ), "folder": str(Path.cwd())}
    return parent.fork(json.dumps(said).encode(), streams)


@cache
def _parent() -> _Parent:
    parent = _Parent()
    atexit.register(parent.end)
    return parent


def _file(content: bytes = b"") -> int:
    descriptor = os.memfd_create("ct-ops-test")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _content(descriptor: int) -> str:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read().decode()


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb", 0))
    return reader
