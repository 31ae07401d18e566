"""The server CAs that all nodes share, in memory: the same contract suite as the real rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ct_ops_server.audit.decisions import Decision
from ct_ops_server.authority.life_cycle import Straggler
from ct_ops_server.authority.ports import Heard
from ct_ops_server.authority.server_ca_lineage import Lineage
from ct_ops_server.fleet.shared_server_cas import LineageChangedError, Recorded
from fakes.memory_store import MemoryStore


class MemoryServerCas:
    """``fleet.shared_server_cas.ServerCaStore``."""

    def __init__(
        self,
        store: MemoryStore,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        note: Callable[[Sequence[Decision]], None] = lambda _decisions: None,
    ) -> None:
        self._store = store
        self._reported: dict[str, tuple[str, int]] = {}
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

    async def heard(self, worker_id: str) -> Heard:
        has_lease = self._store.has_lease(worker_id)
        return Heard(self._version(), self._reported.get(worker_id, ("", -1))[1] if has_lease else None)

    async def report(self, worker_id: str, node: str, version: int) -> None:
        if self._store.has_lease(worker_id):
            self._reported[worker_id] = (node, version)

    async def stragglers(self, version: int) -> Sequence[Straggler]:
        living = sorted(self._store.living_workers())
        known = [(each, *self._reported.get(each, ("", -1))) for each in living]
        return [Straggler(worker_id, node) for worker_id, node, theirs in known if theirs < version]

    def _version(self) -> int:
        return 0 if self._lineage is None else self._lineage.version

    async def change(self, lineage: Lineage, *, expected: int, decisions: Sequence[Decision]) -> None:
        if self._version() != expected:
            raise LineageChangedError
        self._lineage = lineage
        self._note(decisions)
