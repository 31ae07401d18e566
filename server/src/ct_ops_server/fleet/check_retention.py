"""Keeps the results of checks bounded, beside the agents' writes: no heartbeat pays for it.

A check's own row counts its results, so whether there is anything to forget is one small query a minute.
Several processes on one database may do the same at once; the rows are locked.
"""

from __future__ import annotations

from datetime import timedelta

from ct_ops_server.fleet.check_model import KEPT_RESULTS
from ct_ops_server.fleet.check_ports import CheckStore

TOPIC = "old check results"
"""Nobody hints at it: it is only ever due again."""
PRUNE_EVERY = timedelta(minutes=1)


class ResultPruning:
    """Forgets old results of checks."""

    def __init__(self, store: CheckStore, *, keep: int = KEPT_RESULTS) -> None:
        self._store = store
        self._keep = keep

    async def catch_up(self) -> None:
        """Forget what is too many, chunk after chunk: others write in between.

        Raises:
            StoreError: the store did not answer; what was not done is done the next time.
        """
        while await self._store.prune_results(keep=self._keep):
            pass
