"""The lines of a database's files, one at a time and with an end.

A line ends with a line feed and nothing else: descriptions may hold what Unicode calls a line's end, and make no
field with it. Of a line that is longer than any field the beginning counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ct_ops_agent.collector import CollectorError

MOST_BYTES = 64 * 1024 * 1024
"""Ten times the biggest that we have seen."""

_LONGEST_LINE = 65_536
_MIB = 1024 * 1024


class Lines:
    """Reads the files of one database, which all together may have only so many bytes."""

    def __init__(self, manager: str, most_bytes: int = MOST_BYTES) -> None:
        """Prepare; ``manager`` is whose database it is."""
        self._manager = manager
        self._most_bytes = most_bytes
        self._left = most_bytes

    def of(self, path: Path) -> Iterator[str]:
        """Yield the lines of a file, without their ends.

        Raises:
            CollectorError: it cannot be read, or there is more than a database would hold.
        """
        try:
            with path.open("rb") as file:
                begins = True
                while line := file.readline(_LONGEST_LINE):
                    self._count(len(line), path)
                    if begins:
                        yield line.removesuffix(b"\n").decode(errors="replace")
                    begins = line.endswith(b"\n")
        except OSError as error:
            raise CollectorError(f"{path} cannot be read: {error.strerror}") from error

    def _count(self, size: int, path: Path) -> None:
        self._left -= size
        if self._left < 0:
            most = f"{self._most_bytes // _MIB} MiB"
            raise CollectorError(
                f"{self._manager} has more than {most} of packages, up to {path}: look what fills it"
            )
