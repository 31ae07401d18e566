"""A numbered batch, the answers to it, and how far each side has come.

The rules by which an outbox and a store find together again are `delivery.position`'s; these are the words they use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto


@dataclass(frozen=True)
class Position:
    """How far an outbox was acknowledged, as its agent knows it."""

    outbox_id: bytes
    acked_seq: int
    acked_digest: bytes
    """Empty for sequence 0."""

    store_id: bytes
    """The server's store it last spoke to; empty: none yet."""


@dataclass(frozen=True)
class Batch:
    """Items with a number."""

    outbox_id: bytes
    seq: int
    payload: bytes = field(repr=False)


class Verdict(Enum):
    """What a server did with a batch."""

    STORED = auto()
    MISMATCH = auto()
    """It does not follow what the server has of this outbox."""

    LATER = auto()


@dataclass(frozen=True)
class RefusedItem:
    """An item that this server will never store."""

    index: int
    """Counted over the batch's results, then its samples, then its gaps."""

    reason: str


@dataclass(frozen=True)
class BatchAck:
    """The answer to a batch."""

    outbox_id: bytes
    seq: int
    digest: bytes
    verdict: Verdict
    retry_after_s: float = 0.0
    """How long the next batch shall wait, also beside STORED."""

    stored_seq: int = 0
    stored_digest: bytes = b""
    refused: tuple[RefusedItem, ...] = ()


@dataclass(frozen=True)
class Welcome:
    """What a server of ours says first on a stream."""

    store_id: bytes
    """Made with the server's database, changed by every restore."""

    stored_seq: int
    stored_digest: bytes
    max_batch_bytes: int
