"""Transactions on one SQLite connection: all or nothing, and durable where that is asked.

In write-ahead mode a commit at level NORMAL survives the end of the process, one at level FULL also the end
of power, with everything that was committed before it. The first costs no wait for the disk, the second one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Transactions:
    """Begins and ends them. The connection's isolation level is ``None``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._is_syncing: bool | None = None

    @contextmanager
    def __call__(self, *, durable: bool) -> Iterator[None]:
        """Run a block as one transaction."""
        if durable is not self._is_syncing:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_syncing = durable
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
