"""Whether files have changed since they were last looked at: by their size, time and inode.

Looked at once a second by whoever serves them. No notification service: it would miss what happens on a
network file system, and a rename over a mounted file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_Signature = tuple[int, int, int] | None


class WatchedFiles:
    """Some files, and how they looked."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._seen = self._look()

    def changed(self) -> bool:
        """Return whether any of them looks different than at the last call."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> tuple[_Signature, ...]:
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path) -> _Signature:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
