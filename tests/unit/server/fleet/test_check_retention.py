"""Old results are forgotten chunk after chunk."""

from __future__ import annotations

from ct_ops_server.fleet.check_retention import ResultPruning
from fakes.memory_checks import MemoryChecks
from fakes.memory_store import MemoryStore


class Chunks(MemoryChecks):
    """A store with so many chunks to forget."""

    def __init__(self, chunks: int) -> None:
        super().__init__(MemoryStore())
        self.left = chunks
        self.kept: set[int] = set()

    async def prune_results(self, *, keep: int) -> int:
        self.kept.add(keep)
        gone, self.left = min(self.left, 1), max(self.left - 1, 0)
        return gone


async def test_all_chunks_are_forgotten_before_it_rests() -> None:
    """Until the store says that nothing was too many."""
    store = Chunks(3)
    await ResultPruning(store, keep=7).catch_up()

    assert (0, {7}) == (store.left, store.kept)
