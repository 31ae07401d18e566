"""Numbered delivery, the server's half: which batch may be stored, and what its agent is told.

An agent numbers its batches when it sends them and sends one at a time, so a server that has stored
batch N of an outbox accepts N + 1 of it and nothing else. The position, number and digest, moves in the
transaction of the data itself; the acknowledgement follows the commit. So whatever is cut off where:

* a batch whose acknowledgement was lost comes again with the same number and digest: STORED, nothing
  is written twice;
* a batch of an agent, or onto a server, that went back in time does not fit: MISMATCH, with the position,
  from which the agent works out what must be sent again;
* a database that does not answer is LATER: nothing is known, the agent sends the same again;
* a stream that is not its agent's latest, or whose agent was revoked, is FENCED and stores nothing
  (rule 18).

Items that cannot be stored block nothing: each is refused by its index, recorded, and forgotten by its
agent. What is stored twice (clones, a new outbox) ends at content keys: ``fleet.items``.

Here are the values and the decisions, pure; ``store.deliveries`` decides in SQL what ``verdict_on`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from ct_ops_server.fleet.items import CollectorState, Gap, Item, ItemRefused

KEPT_OUTBOXES = 8
"""Outboxes that a position is kept of, for one agent: those used last."""

MOST_EXAMPLE_CHARS = 200
"""Of what a refused item was about."""

_CALM = 0.05
"""Load below which nobody is asked to wait."""
_LONGEST_PAUSE_MS = 5_000


@dataclass(frozen=True, slots=True)
class Position:
    """How far an outbox was stored. The one before any batch is ``Position()``."""

    seq: int = 0
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class BatchNumber:
    """What a batch is known by."""

    outbox_id: bytes
    seq: int
    """1 to 2^63 - 1."""
    digest: bytes
    """SHA-256 of its payload, the first 16 bytes."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Items on their way into the store, of one stream of one agent."""

    agent_id: str
    generation: int
    items: tuple[tuple[int, Item], ...]
    """Each with its index in the batch."""
    malformed: tuple[MalformedItem, ...] = ()
    """Those that are no items: to be recorded beside the others."""
    number: BatchNumber | None = None
    """None: an existing agent's results, which come beside its heartbeat without a number."""
    collectors: tuple[CollectorState, ...] | None = None
    """Which collectors run on the host, all of them; None: the frame says nothing about them."""


@dataclass(frozen=True, slots=True)
class MalformedItem:
    """An item that never became a value."""

    index: int
    kind: str
    """``sample``, ``check_result`` …; ``batch`` for a payload that cannot be read at all."""
    reason: str
    example: str = ""
    """What it is about, printable and short: a series, a check's id."""


class Verdict(StrEnum):
    """What became of a delivery."""

    STORED = "stored"
    MISMATCH = "mismatch"
    LATER = "later"
    FENCED = "fenced"


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a delivery, after the commit."""

    verdict: Verdict
    position: Position = field(default_factory=Position)
    """Where its outbox is now; without meaning for a delivery without a number."""
    refused: tuple[ItemRefused, ...] = ()
    """The items that were not stored, and never will be."""
    is_new: bool = field(default=False, compare=False)
    """The items were looked at just now; not so for a batch that had been stored before."""


FENCED = Delivered(Verdict.FENCED)


@dataclass(frozen=True, slots=True)
class StoredGap:
    """A gap that an agent reported."""

    gap: Gap
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class RefusedItems:
    """Items of one kind that were refused for one reason, counted."""

    kind: str
    reason: str
    count: int
    first_at: datetime
    last_at: datetime
    example: str
    """What the latest of them was about."""


def verdict_on(batch: BatchNumber, found: Position) -> Verdict | None:
    """Return what is to be said of a batch, its outbox being there; None: it is the next one, store it."""
    if batch.seq == found.seq + 1:
        return None
    if (batch.seq, batch.digest) == (found.seq, found.digest):
        return Verdict.STORED
    return Verdict.MISMATCH


def pause_ms(load: float) -> int:
    """Return how long an agent is asked to wait before its next batch.

    Args:
        load: share of the room for waiting batches that is taken, 0 to 1. Heartbeats have room of their
            own and are never asked to wait.
    """
    excess = max(0.0, min(load, 1.0) - _CALM) / (1 - _CALM)
    return round(excess * _LONGEST_PAUSE_MS)


class DeliveryStore(Protocol):
    """Where deliveries are stored; ``store.deliveries`` and ``tests/fakes`` implement it."""

    async def deliver(self, delivery: Delivery) -> Delivered:
        """Store a delivery; returns after the commit. Never LATER: that is what the error means.

        Raises:
            StoreUnavailableError: nothing is known of it; the same delivery may be tried again.
        """

    async def position(self, agent_id: str, outbox_id: bytes) -> Position:
        """Return how far an outbox was stored. Complete when a stream has been opened before."""

    async def gaps(self, agent_id: str) -> Sequence[StoredGap]:
        """Return the gaps that are kept, newest first."""

    async def refused_items(self, agent_id: str) -> Sequence[RefusedItems]:
        """Return what was refused of an agent, latest first."""

    @property
    def load(self) -> float:
        """Share of the room for waiting batches that is taken, 0 to 1; there is none left at 1."""
