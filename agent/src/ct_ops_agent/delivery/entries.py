"""What lanes hold: encoded items with what must be known of them when they are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from ct_ops_agent.delivery.summary import Summary, Tally
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.work import CheckResult, QueryResult, Result, TaskAccepted, TaskProgress

SAMPLE = "sample"


class Lane(IntEnum):
    """Order of sending; inside a lane the oldest goes first. Gaps travel between the two."""

    RESULTS = 0
    SAMPLES = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One result, or the samples of one run of a collector."""

    lane: Lane
    tally: Tally
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """What was dropped instead of delivered."""

    tally: Tally
    reason: str


@dataclass(frozen=True)
class Leftovers:
    """What one outbox leaves to another."""

    batches: list[tuple[Summary, bytes]] = field(repr=False)
    entries: list[Entry] = field(repr=False)
    gaps: list[Gap]
    delivered: Summary
    """What is on the server, as far as it has not gone back."""


class Codec(Protocol):
    """Makes bytes of items. What it returns may be concatenated in any order (`transport.convert_items`)."""

    def encode_result(self, result: Result) -> bytes:
        """Return the bytes of one result."""

    def encode_samples(self, samples: Sequence[TimedSample]) -> bytes:
        """Return the bytes of some samples."""

    def encode_gap(self, gap: Gap) -> bytes:
        """Return the bytes of one gap."""

    def encode_link(self, previous_digest: bytes) -> bytes:
        """Return the bytes that tie a batch to the one before it."""


def type_of(result: Result) -> str:
    """Return what gaps and figures call a result."""
    match result:
        case CheckResult():
            return "check_result"
        case QueryResult():
            return "query_result"
        case TaskAccepted():
            return "task_accepted"
        case TaskProgress():
            return "task_progress"
        case _:
            return "task_result"


URGENT_TYPES = frozenset({"query_result", "task_accepted", "task_progress", "task_result"})
"""Somebody waits for them: an existing server gets them in a heartbeat of their own."""


def entry_of_result(result: Result, codec: Codec, now_ms: int) -> Entry:
    """Return the entry of a result; one without a time of its own has the present."""
    at_ms = result.ran_at_ms if isinstance(result, CheckResult) else now_ms
    return Entry(Lane.RESULTS, Tally(type_of(result), 1, at_ms, at_ms), codec.encode_result(result))


def entries_of_samples(samples: Sequence[TimedSample], codec: Codec, most: int = 256) -> list[Entry]:
    """Return the entries of one run of a collector: one for each `most` samples."""
    return [_entry_of_chunk(samples[start : start + most], codec) for start in range(0, len(samples), most)]


def _entry_of_chunk(samples: Sequence[TimedSample], codec: Codec) -> Entry:
    times = [sample.at_ms for sample in samples]
    tally = Tally(SAMPLE, len(samples), min(times), max(times))
    return Entry(Lane.SAMPLES, tally, codec.encode_samples(samples))
