"""Batches and the ledger: what has, had or will have a number. Who calls is inside a transaction of `outbox`."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from ct_ops_agent.delivery.packing import packed, unpacked
from ct_ops_agent.delivery.summary import Summary, parse_summary

_LEDGER_HOUR_MS = 3_600_000
_LONGEST_LEDGER = 2_200
"""Rows: three months of hours. Older ones become one row."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A numbered payload, or one that waits for a new number."""

    id: int
    seq: int | None
    at_ms: int
    digest: bytes
    bytes: int
    """Of what it holds."""

    summary: Summary


class Batches:
    """Statements on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._do = connection.execute

    def add_batch(self, summary: Summary, content: bytes, at_ms: int) -> None:
        """Keep what a batch holds; it waits for its number."""
        self._do(
            "INSERT INTO batch (at_ms, digest, link, bytes, summary, body) VALUES (?, x'', x'', ?, ?, ?)",
            (at_ms, len(content), summary.to_text(), packed(content)),
        )

    def batch_of(self, seq: int) -> BatchRow | None:
        """Return the batch of a number."""
        return self._one_batch("WHERE seq = ?", seq)

    def oldest_retained(self, acked_seq: int) -> BatchRow | None:
        """Return the acknowledged batch with the lowest number."""
        return self._one_batch("WHERE seq <= ? ORDER BY seq", acked_seq)

    def oldest_unnumbered(self) -> BatchRow | None:
        """Return the oldest batch that waits for a number."""
        return self._one_batch("WHERE seq IS NULL ORDER BY id")

    def newest_batch(self) -> BatchRow | None:
        """Return the batch that was added last."""
        return self._one_batch("ORDER BY id DESC")

    def unacknowledged(self, acked_seq: int) -> list[BatchRow]:
        """Return what is frozen, then what waits for a new number."""
        return self._batches("WHERE seq > ? OR seq IS NULL ORDER BY seq IS NULL, seq, id", acked_seq)

    def content(self, batch: BatchRow) -> bytes:
        """Return what a batch holds."""
        (body,) = self._do("SELECT body FROM batch WHERE id = ?", (batch.id,)).fetchone()
        return unpacked(body)

    def payload(self, batch: BatchRow) -> bytes:
        """Return the exact bytes of a batch with a number: what it holds, and its link to the one before."""
        (link,) = self._do("SELECT link FROM batch WHERE id = ?", (batch.id,)).fetchone()
        return self.content(batch) + bytes(link)

    def number(self, batch: BatchRow, seq: int, link: bytes, digest: bytes) -> None:
        """Give a batch that waits its number."""
        self._do("UPDATE batch SET seq = ?, link = ?, digest = ? WHERE id = ?", (seq, link, digest, batch.id))

    def take_numbers_away(self) -> None:
        """Let every batch wait for a new number, in the order they had."""
        self._do("UPDATE batch SET seq = NULL")
        self._do("UPDATE ledger SET last_seq = 0, digest = x'00'")

    def remove_batch(self, batch: BatchRow) -> None:
        """Forget a batch."""
        self._do("DELETE FROM batch WHERE id = ?", (batch.id,))

    def last_seq(self) -> int | None:
        """Return the highest number in use."""
        (seq,) = self._do("SELECT max(seq) FROM batch").fetchone()
        return None if seq is None else int(seq)

    def number_of_unacknowledged(self, acked_seq: int) -> int:
        """Return how many batches are frozen or wait for a new number."""
        found = self._do("SELECT count(*) FROM batch WHERE seq > ? OR seq IS NULL", (acked_seq,))
        return int(found.fetchone()[0])

    def begin_retaining(self, batch: BatchRow, at_ms: int) -> None:
        """Count a batch's age from now on: it was acknowledged."""
        self._do("UPDATE batch SET at_ms = ? WHERE id = ?", (at_ms, batch.id))

    # ---- the ledger --------------------------------------------------------------------------

    def write_off(self, batch: BatchRow, at_ms: int) -> None:
        """Forget an acknowledged batch, and remember what it held."""
        assert batch.seq is not None, "only what was acknowledged is written off"
        self.remove_batch(batch)
        self.add_to_ledger(batch.seq, batch.digest, batch.summary, at_ms)

    def add_to_ledger(self, seq: int, digest: bytes, summary: Summary, at_ms: int) -> None:
        """Remember what was acknowledged, in the row of its hour."""
        newest = self._do(
            "SELECT id, summary FROM ledger WHERE id = (SELECT max(id) FROM ledger) AND at_ms > ? AND last_seq > 0",
            (at_ms - _LEDGER_HOUR_MS,),
        ).fetchone()
        if newest:
            for tally in parse_summary(newest[1]):
                summary.add(tally)
            self._do(
                "UPDATE ledger SET last_seq = ?, digest = ?, summary = ? WHERE id = ?",
                (seq, digest, summary.to_text(), newest[0]),
            )
            return
        self._do(
            "INSERT INTO ledger (last_seq, digest, at_ms, summary) VALUES (?, ?, ?, ?)",
            (seq, digest, at_ms, summary.to_text()),
        )
        self._shorten_ledger()

    def digest_in_ledger(self, seq: int) -> bytes | None:
        """Return the digest of a batch that ended an hour of the ledger."""
        row = self._do("SELECT digest FROM ledger WHERE last_seq = ?", (seq,)).fetchone()
        return row[0] if row else None

    def tear_out(self, gone_after: int) -> Summary:
        """Remove and return what the ledger holds above a number."""
        summary = Summary()
        for (text,) in self._do("SELECT summary FROM ledger WHERE last_seq > ?", (gone_after,)):
            for tally in parse_summary(text):
                summary.add(tally)
        self._do("DELETE FROM ledger WHERE last_seq > ?", (gone_after,))
        return summary

    def summary_of_delivered(self, acked_seq: int) -> Summary:
        """Return what the ledger and the retained batches hold."""
        summary = Summary()
        found = self._do(
            "SELECT summary FROM ledger UNION ALL SELECT summary FROM batch WHERE seq <= ?", (acked_seq,)
        )
        for (text,) in found:
            for tally in parse_summary(text):
                summary.add(tally)
        return summary

    def _shorten_ledger(self) -> None:
        rows = self._do("SELECT count(*) FROM ledger").fetchone()[0]
        if rows <= _LONGEST_LEDGER:
            return
        (first, text), (second, more) = self._do(
            "SELECT id, summary FROM ledger ORDER BY id LIMIT 2"
        ).fetchall()
        merged = parse_summary(text)
        for tally in parse_summary(more):
            merged.add(tally)
        self._do("DELETE FROM ledger WHERE id = ?", (first,))
        self._do("UPDATE ledger SET summary = ? WHERE id = ?", (merged.to_text(), second))

    def _one_batch(self, where: str, *values: int) -> BatchRow | None:
        found = self._batches(f"{where} LIMIT 1", *values)
        return found[0] if found else None

    def _batches(self, where: str, *values: int) -> list[BatchRow]:
        found = self._do(f"SELECT {_BATCH_COLUMNS} FROM batch {where}", values)  # noqa: S608 - literals of this module
        return [_batch_row(row) for row in found]


_BATCH_COLUMNS = "id, seq, at_ms, digest, bytes, summary"


def _batch_row(row: tuple[int, int | None, int, bytes, int, str]) -> BatchRow:
    batch_id, seq, at_ms, digest, size, summary = row
    return BatchRow(batch_id, seq, at_ms, digest, size, parse_summary(summary))
