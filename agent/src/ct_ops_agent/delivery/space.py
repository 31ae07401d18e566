"""What is given up when the outbox is full, or too old: the order, and the gap that says it.

Acknowledged batches go first and into the ledger: the server has them. Then what is not frozen, the oldest
first, each with a gap: batches that wait for a new number, samples, results. The frozen batch never: it may
be on the server under its number already.
"""

from __future__ import annotations

from dataclasses import dataclass

from ct_ops_agent.delivery.batches import Batches, BatchRow
from ct_ops_agent.delivery.entries import Gap, Lane
from ct_ops_agent.delivery.summary import Summary
from ct_ops_agent.delivery.tables import Row, Tables

RETAINED_MS = 26 * 3_600_000
"""What survives a restore of the server from last night's backup."""

WAS_FULL = "the outbox was full"
WAS_OLD = "older than the outbox keeps"
_AT_ONCE = 32


@dataclass(frozen=True)
class Limits:
    """How much is kept."""

    max_bytes: int
    max_age_ms: int
    """Of what could not be delivered."""


class Space:
    """Makes room in an outbox, inside its transactions."""

    def __init__(self, tables: Tables, batches: Batches, limits: Limits) -> None:
        self._tables = tables
        self._batches = batches
        self._limits = limits

    def trim(self, acked_seq: int, now_ms: int) -> None:
        """Give up what is too old, then what is too much."""
        self._write_off_older_than(now_ms - RETAINED_MS, acked_seq, now_ms)
        self._drop_older_than(now_ms - self._limits.max_age_ms)
        while self._tables.used_bytes() > self._limits.max_bytes:
            if not self._make_room(acked_seq, now_ms):
                return

    def drop_batch(self, batch: BatchRow, reason: str) -> None:
        """Give up a batch that has no number."""
        for tally in batch.summary:
            self._tables.add_gap(Gap(tally, reason))
        self._batches.remove_batch(batch)

    def _write_off_older_than(self, at_ms: int, acked_seq: int, now_ms: int) -> None:
        while (batch := self._batches.oldest_retained(acked_seq)) and batch.at_ms < at_ms:
            self._batches.write_off(batch, now_ms)

    def _drop_older_than(self, at_ms: int) -> None:
        while (batch := self._batches.oldest_unnumbered()) and batch.at_ms < at_ms:
            self.drop_batch(batch, WAS_OLD)
        for lane in Lane:
            while self._tables.began_before(lane, at_ms):
                rows = self._tables.oldest(lane, _AT_ONCE)
                self._drop([row for row in rows if row.at_ms < at_ms], WAS_OLD)

    def _make_room(self, acked_seq: int, now_ms: int) -> bool:
        """Do one step; ``False``: nothing more may be given up."""
        if retained := self._batches.oldest_retained(acked_seq):
            self._batches.write_off(retained, now_ms)
            return True
        if waiting := self._batches.oldest_unnumbered():
            self.drop_batch(waiting, WAS_FULL)
            return True
        for lane in (Lane.SAMPLES, Lane.RESULTS):
            if rows := self._tables.oldest(lane, _AT_ONCE):
                self._drop(rows, WAS_FULL)
                return True
        return False

    def _drop(self, rows: list[Row], reason: str) -> None:
        for tally in Summary(row.tally for row in rows):
            self._tables.add_gap(Gap(tally, reason))
        self._tables.remove_items([row.id for row in rows])
