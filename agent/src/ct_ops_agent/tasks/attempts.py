"""Attempts: which attempts of tasks this agent has taken, and how they ended. Outlives a restart.

An attempt is written down *before* it starts, and its result when it has one. So a crash leaves an attempt
without a result, which the next process reports as interrupted, and an attempt that is asked for again, on
another stream or after a restart, is never done a second time: its result is simply sent again.

``tasks.json`` in the data directory, 0600, the newest `REMEMBERED` attempts. It holds no configuration.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.identity.files import load_file, write_file
from ct_ops_agent.work import TaskResult

_log = logging.getLogger(__name__)

FILE = "tasks.json"
REMEMBERED = 100


class Attempt(msgspec.Struct, frozen=True):
    """One attempt of a task, as it is written down."""

    task_id: str
    task_type: str
    attempt: int
    result: TaskResult | None = None
    """``None``: taken, and not ended."""


class Attempts:
    """The newest attempt of each task."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._lock = threading.Lock()
        self._known = {attempt.task_id: attempt for attempt in self._load()}

    def of(self, task_id: str) -> Attempt | None:
        """Return the newest attempt of a task."""
        return self._known.get(task_id)

    @property
    def unfinished(self) -> tuple[Attempt, ...]:
        """Those without a result, oldest first."""
        return tuple(attempt for attempt in self._known.values() if attempt.result is None)

    def record(self, attempt: Attempt) -> None:
        """Write it down, durable on return; the oldest that have ended are forgotten. Safe from any thread.

        Whoever was replaced by a newer attempt may still be writing: what it says of the older one is nothing
        any more.

        Raises:
            DataDirectoryError: it cannot be written; it is not known then.
        """
        with self._lock:
            newest = self._known.get(attempt.task_id, attempt)
            if newest.attempt > attempt.attempt:
                return
            others = [known for known in self._known.values() if known.task_id != attempt.task_id]
            kept = _newest([*others, attempt])
            write_file(self._path, msgspec.json.encode(kept).decode())
            self._known = {known.task_id: known for known in kept}

    def _load(self) -> list[Attempt]:
        try:
            text = load_file(self._path)
            return msgspec.json.decode(text, type=list[Attempt]) if text else []
        except (DataDirectoryError, msgspec.DecodeError) as error:
            _log.warning("which tasks were taken before this start is not known: %s", error)
            return []


def _newest(attempts: Iterable[Attempt]) -> list[Attempt]:
    kept = list(attempts)
    surplus = len(kept) - REMEMBERED
    return [attempt for index, attempt in enumerate(kept) if index >= surplus or attempt.result is None]
