"""One upload of a software scan, chunk by chunk, until it is complete. Pure.

A scan counts when its last chunk has come, and never before: an upload that was cut off says nothing about
what is missing from it. Chunks come in order, all of one scan; existing agents may begin to count at 1.
A scan that found nothing is none: a package manager that fails must not empty a host's list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ct_ops_server.fleet.orders import ScannedPackage
from ct_ops_server.fleet.work_ports import ScanRefusedError

MOST_PACKAGES = 50_000
MOST_CHARS = 8 * 1024 * 1024
"""Of all texts of one scan."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a scan, storable."""

    task_id: str
    attempt: int
    index: int
    is_last: bool
    packages: tuple[ScannedPackage, ...]


class Scan:
    """What has come of one scan."""

    def __init__(self, first: Chunk) -> None:
        """Begin with the first chunk.

        Raises:
            ScanRefusedError: it is none.
        """
        if first.index not in {0, 1}:
            raise ScanRefusedError("scan_order")
        self.task_id = first.task_id
        self.attempt = first.attempt
        self._next_index = first.index
        self._packages: list[ScannedPackage] = []
        self._chars = 0
        self.is_complete = False
        self.take(first)

    @property
    def packages(self) -> Sequence[ScannedPackage]:
        """What was found, as far as it has come."""
        return self._packages

    def take(self, chunk: Chunk) -> None:
        """Add the next chunk.

        Raises:
            ScanRefusedError: it is of another scan, not the next one, or makes the scan too large.
        """
        if (chunk.task_id, chunk.attempt) != (self.task_id, self.attempt):
            raise ScanRefusedError("scan_mixed")
        if chunk.index != self._next_index:
            raise ScanRefusedError("scan_order")
        self._next_index += 1
        self._packages += chunk.packages
        self._chars += sum(map(_chars, chunk.packages))
        if len(self._packages) > MOST_PACKAGES or self._chars > MOST_CHARS:
            raise ScanRefusedError("scan_too_large")
        if chunk.is_last and not self._packages:
            raise ScanRefusedError("scan_empty")
        self.is_complete = chunk.is_last


def _chars(package: ScannedPackage) -> int:
    texts = (package.source, package.name, package.version, package.architecture, package.publisher)
    return sum(map(len, texts))
