"""What carried requests need from a store, as a protocol.

``store.carried`` implements it on SQLite and PostgreSQL, ``tests/fakes`` in memory; both pass the same contract
suite. Every method may raise the errors of ``fleet.ports``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A carried request for which a leaf was given out."""

    request_id: str
    digest: bytes
    """SHA-256 of what its key signed."""
    key_id: str
    agent_id: str
    leaf_sha256: bytes
    """Of the leaf in the reply."""
    actor: str
    """Who had it signed."""


class CarriedStore(Protocol):
    """The ids of requests that were answered, for as long as their requests would be young enough to be shown again."""

    async def find_answered(self, request_id: str) -> AnsweredRequest | None:
        """Return what became of the request with this id; None when it was never answered."""

    async def record_answered(self, answered: AnsweredRequest) -> bool:
        """Spend the id in one transaction, with a line in the audit log; again for the same answer, with another line.

        Returns:
            False, and nothing is changed, when it is spent by another request, or was given another leaf.
        """
