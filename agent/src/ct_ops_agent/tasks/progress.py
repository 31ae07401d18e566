"""Progress: what a running task has to say, in order, each piece with its offset in the whole.

The offset counts characters. With the task and its attempt it is the key by which a piece that comes twice is
known, so it never depends on how often the delivery was tried.
"""

from __future__ import annotations

import asyncio
import logging

from ct_ops_agent.errors import AgentError
from ct_ops_agent.work import Results, Task, TaskProgress

_log = logging.getLogger(__name__)

MAX_CHARS = 256 * 1024
"""More output than this is nothing that anybody reads; the rest is not sent."""


class Progress:
    """The output of one attempt. `say` never waits."""

    def __init__(self, results: Results, task: Task) -> None:
        self._results = results
        self._task = task
        self._offset = 0
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue()
        self._sending = asyncio.create_task(self._send(), name=f"progress of {task.task_id}")

    def say(self, line: str) -> None:
        """Add a line."""
        self._waiting.put_nowait(f"{line}\n")

    async def close(self) -> None:
        """Return when all that was said is kept."""
        self._waiting.put_nowait(None)
        await self._sending

    def abandon(self) -> None:
        """Drop what was not kept yet."""
        self._sending.cancel()

    async def _send(self) -> None:
        while (text := await self._waiting.get()) is not None:
            if self._offset + len(text) > MAX_CHARS:
                continue
            piece = TaskProgress(self._task.task_id, self._task.attempt, self._offset, text)
            self._offset += len(text)
            try:
                await self._results.put(piece)
            except AgentError as error:
                _log.warning("output of task %s is lost: %s", self._task.task_id, error)
