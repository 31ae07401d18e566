"""How much the uploads of one process may hold in memory, all together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ct_ops_server.edge.refusals import refuse


class Budget:
    """What the uploads of one process hold in memory."""

    def __init__(self, packages: int) -> None:
        self._left = packages
        self._agents: set[str] = set()

    @contextmanager
    def upload_of(self, agent_id: str) -> Iterator[Share]:
        """Yield the share of one upload.

        Raises:
            Refused: the agent has another one going on.
        """
        if agent_id in self._agents:
            raise refuse("upload_running")
        self._agents.add(agent_id)
        share = Share(self)
        try:
            yield share
        finally:
            self._agents.discard(agent_id)
            self._left += share.taken

    def take(self, packages: int) -> None:
        """Take from what is left.

        Raises:
            Refused: nothing is left.
        """
        if packages > self._left:
            raise refuse("uploads_busy", retry_after_ms=10_000)
        self._left -= packages


class Share:
    """What one upload has taken of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.taken = 0

    def take(self, packages: int) -> None:
        """Take more."""
        self._budget.take(packages)
        self.taken += packages
