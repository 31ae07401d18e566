"""Whoever shows how it goes with the files, as a protocol: ``edge.audit_metrics`` implements it."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Whoever shows how it goes. Called on the event loop; must not raise."""

    def written(self, entries: int) -> None:
        """So many entries are in the files now."""

    def lag(self, entries: int) -> None:
        """So many entries are in the database and not in the files."""

    def signed(self, at_ms: int) -> None:
        """How far the chain reaches was signed."""

    def failing(self, *, is_failing: bool) -> None:
        """Whether the files can be written."""

    def waiting(self, *, is_waiting: bool) -> None:
        """Whether the files wait for a database that does not answer."""

    def branched(self) -> None:
        """The database was found rolled back."""

    def touched(self) -> None:
        """Somebody else changed the file that is written."""


class NobodyWatching:
    """A watcher that shows nothing."""

    def written(self, entries: int) -> None:
        """Ignore it."""

    def lag(self, entries: int) -> None:
        """Ignore it."""

    def signed(self, at_ms: int) -> None:
        """Ignore it."""

    def failing(self, *, is_failing: bool) -> None:
        """Ignore it."""

    def waiting(self, *, is_waiting: bool) -> None:
        """Ignore it."""

    def branched(self) -> None:
        """Ignore it."""

    def touched(self) -> None:
        """Ignore it."""
