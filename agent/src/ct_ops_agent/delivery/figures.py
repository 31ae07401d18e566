"""How full an outbox is, for people: `status`, and the collector of the agent itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """How full an outbox is, for people."""

    outbox_id: bytes
    acked_seq: int
    acked_at_ms: int | None
    """Wall clock."""

    used_bytes: int
    results: int
    samples: int
    batches: int
    """Not acknowledged: frozen, or to be sent again under a new number."""

    oldest_ms: int | None
    """Wall clock, of the oldest item that is in no batch yet."""

    counts: tuple[tuple[str, str, int], ...] = ()
    """What was ever dropped or refused: type, reason, how many."""
