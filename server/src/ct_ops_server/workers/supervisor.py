"""The parent of the workers: starts them, starts those again that die, stops them, and speaks for all of them.

    first worker ──ready──► the others ──all ready──► READY ──SIGTERM──► each drains ──► 0
                                                        │
                     one dies or hangs ──► another in its place, unless that is hopeless (`restarts`)

The first worker starts alone: what is done once for all (keys, migrations) is done when the others look.
SIGHUP replaces the workers one after another: first another one in the same place, then the end of the old one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct_ops_server.workers.line import LineToWorker
from ct_ops_server.workers.place import VARIABLE, Place
from ct_ops_server.workers.restarts import Restarts
from ct_ops_server.workers.sockets import SharedSockets

_log = logging.getLogger("ct_ops_server.workers")
_LOOK_EVERY_S = 1.0
_STOP_SLACK_S = 10.0
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class WorkersFailedError(Exception):
    """The server cannot go on. ``code`` is what its worker ended with."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def worker_command(executable: str, *, frozen: bool) -> tuple[str, ...]:
    """Return the words that start a worker: a frozen program is not Python, but itself."""
    if frozen:
        return (executable, "serve")
    # -P: what lies in the folder we were started in is not our code.
    return (executable, "-P", "-m", "ct_ops_server", "serve")


@dataclass(frozen=True)
class Family:
    """What all workers have in common."""

    count: int
    sockets: SharedSockets
    lock_fd: int
    drain_s: float
    environment: Mapping[str, str]
    forget: Callable[[int, str], None]
    """Told the process id of a worker that has gone, and the folder of the figures: its share of gauges goes too."""
    hung_s: float = 30.0
    """A worker whose event loop says nothing for so long serves nobody."""


class _Worker:
    """One process, from its start to its end."""

    def __init__(
        self, index: int, process: asyncio.subprocess.Process, line: LineToWorker, folder: Path
    ) -> None:
        self.index = index
        self.began_s = line.heard_s
        self.process = process
        self.line = line
        self.folder = folder
        self.ended = asyncio.create_task(process.wait(), name=f"worker {process.pid}")

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to a process that may have ended."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def end(self) -> int:
        """Wait for its end; return the exit code. Whoever waits may be cancelled without harm."""
        return await asyncio.shield(self.ended)

    async def ready_or_ended(self) -> bool:
        """Wait until it serves; False when it ended instead."""
        ready = asyncio.create_task(self.line.ready.wait())
        try:
            await asyncio.wait((ready, self.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        return self.line.ready.is_set() and not self.ended.done()


class Supervisor:
    """The parent's event loop."""

    def __init__(self, family: Family, folder: Path) -> None:
        """Prepare; ``folder`` is a short path that workers keep their sockets and counters in."""
        self._family = family
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._replacing = asyncio.Event()
        self._workers: dict[int, _Worker] = {}
        """By place, who serves there, or did last."""
        self._processes: set[_Worker] = set()
        """Those too that are about to serve, or drain."""
        self._changing = [asyncio.Lock() for _ in range(family.count)]
        self._metrics = folder / "metrics"
        self._metrics.mkdir()

    def stop(self) -> None:
        """End the workers, then ``run``."""
        self._stopping.set()

    def replace(self) -> None:
        """Replace the workers one after another."""
        self._replacing.set()

    @property
    def alive(self) -> int:
        """How many workers serve and have said so lately."""
        now_s = self._loop.time()
        return sum(
            worker.line.ready.is_set()
            and not worker.ended.done()
            and now_s - worker.line.heard_s < self._family.hung_s
            for worker in self._workers.values()
        )

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Keep the workers until ``stop``.

        Raises:
            WorkersFailedError: one did not get to serve at the start, or died over and over.
        """
        stopping = asyncio.create_task(self._stopping.wait())
        serving = asyncio.create_task(self._serve(on_ready))
        try:
            await asyncio.wait((stopping, serving), return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            serving.cancel()
            stopping.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await self._end_all()

    async def _serve(self, on_ready: Callable[[], None]) -> None:
        await self._start_first(0)
        await asyncio.gather(*(self._start_first(index) for index in range(1, self._family.count)))
        on_ready()
        await _until_one_fails(
            *(self._keep(index) for index in range(self._family.count)),
            self._look_for_hung_ones(),
            self._replace_when_asked(),
        )

    async def _start_first(self, index: int) -> None:
        worker = self._workers[index] = await self._spawn(index)
        if not await worker.ready_or_ended():
            code = await worker.end()
            raise WorkersFailedError(f"worker {index} did not start", code if code > 0 else 1)

    async def _spawn(self, index: int) -> _Worker:
        ours, theirs = socket.socketpair()
        folder = Path(tempfile.mkdtemp(prefix="w-", dir=self._folder))
        with theirs:
            place = self._place(index, theirs.fileno())
            process = await asyncio.create_subprocess_exec(
                *worker_command(sys.executable, frozen=bool(getattr(sys, "frozen", False))),
                env=self._environment(place, folder),
                pass_fds=place.descriptors,
                stdin=asyncio.subprocess.DEVNULL,
            )
        worker = _Worker(index, process, LineToWorker(ours, now_s=self._loop.time), folder)
        self._processes.add(worker)
        return worker

    def _place(self, index: int, line_fd: int) -> Place:
        sockets = self._family.sockets
        return Place(
            index=index,
            grpc_port=sockets.grpc_port,
            http_fd=sockets.http.fileno(),
            admin_fd=sockets.admin.fileno(),
            lock_fd=self._family.lock_fd,
            line_fd=line_fd,
        )

    def _environment(self, place: Place, folder: Path) -> dict[str, str]:
        return dict(self._family.environment) | {
            VARIABLE: place.written(),
            METRICS_VARIABLE: str(self._metrics),
            "RUNTIME_DIRECTORY": str(folder),
        }

    async def _keep(self, index: int) -> None:
        """Have a worker in this place, always."""
        restarts = Restarts()
        while True:
            worker = self._workers[index]
            code = await worker.end()
            self._bury(worker)
            async with self._changing[index]:
                if self._workers[index] is worker:  # else it was replaced
                    await asyncio.sleep(self._wait_after(worker, code, restarts))
                    self._workers[index] = await self._spawn(index)

    def _wait_after(self, worker: _Worker, code: int, restarts: Restarts) -> float:
        if code == 0 and worker.line.ready.is_set():
            return 0.0  # somebody asked it to go
        _log.error("worker %d (process %d) ended: %s", worker.index, worker.process.pid, _how(code))
        wait_s = restarts.wait_s(self._loop.time() - worker.began_s)
        if wait_s is None:
            raise WorkersFailedError(
                f"worker {worker.index} ended {restarts.young_deaths} times soon after its start, the last time "
                f"with {_how(code)}: see the log above for why",
                1,
            )
        return wait_s

    def _bury(self, worker: _Worker) -> None:
        self._processes.discard(worker)
        worker.line.close()
        shutil.rmtree(worker.folder, ignore_errors=True)
        self._family.forget(worker.process.pid, str(self._metrics))

    async def _look_for_hung_ones(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for worker in self._processes:
                silent_s = self._loop.time() - worker.line.heard_s
                if worker.line.ready.is_set() and silent_s > self._family.hung_s and not worker.ended.done():
                    _log.error("worker %d says nothing for %.0f s and is killed", worker.index, silent_s)
                    worker.tell(signal.SIGKILL)

    async def _replace_when_asked(self) -> None:
        while True:
            await self._replacing.wait()
            self._replacing.clear()
            for index in range(self._family.count):
                if not await self._replace(index):
                    _log.error("worker %d did not start: the workers that are left stay as they are", index)
                    break
            else:
                _log.info("all workers are replaced")

    async def _replace(self, index: int) -> bool:
        """Have another worker serve in this place, then end the one that did; False when no other could start.

        In this order the agents of the one that goes are spread over all that stay, and over its successor.
        """
        async with self._changing[index]:
            successor = await self._spawn(index)
            if not await successor.ready_or_ended():
                self._bury(successor)
                return False
            before, self._workers[index] = self._workers[index], successor
        _log.info("worker %d is replaced", index)
        before.tell(signal.SIGTERM)
        await before.end()
        return True

    async def _end_all(self) -> None:
        workers = tuple(self._processes)
        if not workers:
            return  # asked to stop before the first one was there
        for worker in workers:
            worker.tell(signal.SIGTERM)
        ends = [worker.ended for worker in workers]
        _, late = await asyncio.wait(ends, timeout=self._family.drain_s + _STOP_SLACK_S)
        if late:
            _log.error("%d workers did not stop in time and are killed", len(late))
        for worker in workers:
            worker.tell(signal.SIGKILL)
        await asyncio.gather(*ends)


async def _until_one_fails(*runs: Coroutine[Any, Any, None]) -> None:
    """Run all of them; raise what the first one fails with, as it is."""
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _how(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


def environment_of_workers() -> dict[str, str]:
    """Return what workers see of our environment: whoever manages us is told by us alone."""
    ours = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
    return {name: value for name, value in os.environ.items() if name not in ours}
