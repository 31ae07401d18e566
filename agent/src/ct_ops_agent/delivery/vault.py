"""The outbox behind a thread of its own, and what stands in for it when its disk cannot be written.

Every step runs in one thread, because a sync may take as long as a disk likes and the event loop has
heartbeats to send. What fails is answered here, and the step is done again:

* damaged: the file is set aside and a new outbox begins, with a gap that says so;
* full, read-only, broken: an outbox in memory takes over, with a number series of its own, so that what
  is measured while the disk is full still reaches the server. It is small, and lost with the process,
  which `problem` says. Once a minute the disk is tried again and given what is left.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ct_ops_agent.batches import Position
from ct_ops_agent.clock import Clock
from ct_ops_agent.delivery.entries import Codec, Gap
from ct_ops_agent.delivery.opening import WAL_BYTES, is_damage, open_file, open_memory, set_aside
from ct_ops_agent.delivery.outbox import Outbox
from ct_ops_agent.delivery.space import Limits
from ct_ops_agent.delivery.summary import Tally
from ct_ops_agent.errors import DataDirectoryError

_log = logging.getLogger(__name__)

DAMAGED = "the outbox file was damaged"
MEMORY_BYTES = 4 * 1024 * 1024
_TRY_DISK_EVERY_S = 60.0
_FAILURES = (sqlite3.Error, OSError)
_ResultT = TypeVar("_ResultT")


class Vault:
    """Runs steps on the outbox, one after the other."""

    def __init__(
        self, directory: Path, *, codec: Codec, limits: Limits, clock: Clock, new_id: Callable[[], bytes]
    ) -> None:
        """Open the outbox of a data directory, which this process owns.

        Raises:
            DataDirectoryError: it is a symbolic link or no file.
        """
        self._directory = directory
        self._codec = codec
        self._limits = replace(limits, max_bytes=max(limits.max_bytes - WAL_BYTES, WAL_BYTES))
        self._clock = clock
        self._new_id = new_id
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._disk: Outbox | None = None
        self._try_disk_at = 0.0
        self._problem = ""
        try:
            self._outbox = self._disk = self._open()
        except _FAILURES as error:
            self._outbox = self._begin_in_memory(error)

    @property
    def position(self) -> Position:
        """How far the outbox in use was acknowledged."""
        return self._outbox.position

    @property
    def problem(self) -> str:
        """One sentence about the disk; empty: it takes what it is given."""
        return self._problem

    async def run(self, step: Callable[[Outbox], _ResultT]) -> _ResultT:
        """Run a step in the thread. One that was begun ends also when its caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.do, step)

    def do(self, step: Callable[[Outbox], _ResultT]) -> _ResultT:
        """Run a step here and now, on whatever can be written."""
        self._try_disk_again()
        try:
            return step(self._outbox)
        except _FAILURES as error:
            self._replace_outbox(error)
        return step(self._outbox)

    def close(self) -> None:
        """Bring what is in memory to the disk if that can be written, and close both."""
        self._thread.shutdown()
        self._try_disk_at = 0.0
        self._try_disk_again()
        for outbox in (self._outbox, self._disk):
            if outbox is not None:
                outbox.close()

    # ---- what stands in ----------------------------------------------------------------------

    def _replace_outbox(self, error: Exception) -> None:
        if self._outbox is not self._disk:
            raise error  # memory does not fail
        if not is_damage(error):
            self._outbox = self._begin_in_memory(error)
            return
        try:
            self._outbox = self._disk = self._begin_again(self._disk, error)
        except (*_FAILURES, DataDirectoryError) as failure:
            self._disk = None
            self._outbox = self._begin_in_memory(failure)
            self._say_damaged(self._outbox, int(self._clock.wall() * 1000))

    def _begin_again(self, damaged: Outbox, error: Exception) -> Outbox:
        _log.error("the outbox is damaged (%s): it is set aside, and what it held is lost", error)
        damaged.close()
        return self._open(damaged_since_ms=set_aside(self._directory))

    def _give_up_disk(self, damaged: Outbox) -> None:
        """Set the file aside; the next attempt begins a new one."""
        damaged.close()
        self._disk = None
        with suppress(OSError):
            self._say_damaged(self._outbox, set_aside(self._directory))

    def _open(self, damaged_since_ms: int | None = None) -> Outbox:
        opened = open_file(self._directory)
        try:
            outbox = self._outbox_on(opened.connection, self._limits)
            since_ms = damaged_since_ms or opened.damaged_since_ms
            if since_ms is not None:
                self._say_damaged(outbox, since_ms)
        except sqlite3.Error:
            opened.connection.close()
            raise
        return outbox

    def _say_damaged(self, outbox: Outbox, since_ms: int) -> None:
        now_ms = int(self._clock.wall() * 1000)
        outbox.put((), [Gap(Tally("outbox", 1, min(since_ms, now_ms), now_ms), DAMAGED)], durable=True)

    def _begin_in_memory(self, error: Exception) -> Outbox:
        self._problem = (
            f"the outbox in {self._directory} cannot be written ({error}): results and samples are kept in "
            "memory only; make room on that disk, or make it writable"
        )
        _log.error("%s", self._problem)
        self._try_disk_at = self._clock.monotonic() + _TRY_DISK_EVERY_S
        return self._outbox_on(open_memory(), replace(self._limits, max_bytes=MEMORY_BYTES))

    def _try_disk_again(self) -> None:
        if not self._problem or self._clock.monotonic() < self._try_disk_at:
            return
        self._try_disk_at = self._clock.monotonic() + _TRY_DISK_EVERY_S
        try:
            self._disk = self._disk or self._open()
            self._disk.adopt(self._outbox.leftovers())
        except (*_FAILURES, DataDirectoryError) as error:
            if self._disk and is_damage(error):
                self._give_up_disk(self._disk)
            return
        self._outbox.close()
        self._outbox, self._problem = self._disk, ""
        _log.info("the outbox in %s can be written again", self._directory)

    def _outbox_on(self, connection: sqlite3.Connection, limits: Limits) -> Outbox:
        return Outbox(
            connection,
            codec=self._codec,
            limits=limits,
            new_id=self._new_id,
            monotonic=self._clock.monotonic,
        )
