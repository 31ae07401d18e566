"""The server CAs that all nodes share, in memory: the same contract suite as the real rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ct_ops_server.audit.decisions import Decision
from ct_ops_server.authority.server_ca_lineage import Lineage
from ct_ops_server.fleet.shared_server_cas import LineageChangedError, Recorded


class MemoryServerCas:
    """``fleet.shared_server_cas.ServerCaStore``."""

    def __init__(
        self,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        note: Callable[[Sequence[Decision]], None] = lambda _decisions: None,
    ) -> None:
        self._now = now
        self._note = note
        self._lineage: Lineage | None = None

    def snapshot(self) -> Lineage | None:
        """Return a backup."""
        return self._lineage

    def restore(self, backup: Lineage | None) -> None:
        """Go back to a backup."""
        self._lineage = backup

    async def load(self) -> Recorded:
        return Recorded(self._lineage, self._now())

    async def version(self) -> int:
        return 0 if self._lineage is None else self._lineage.version

    async def change(self, lineage: Lineage, *, expected: int, decisions: Sequence[Decision]) -> None:
        if await self.version() != expected:
            raise LineageChangedError
        self._lineage = lineage
        self._note(decisions)
