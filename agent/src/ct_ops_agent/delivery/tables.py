"""The outbox's tables, one method for each statement or two. Who calls is inside a transaction of `outbox`.

========  =====================================================================================
fact      the position and other single values
item      lanes: one row for a result, or for the samples of one run of a collector
gap       what was dropped, merged by type and reason
batch     numbered contents: ``seq`` above the acknowledged one is frozen, others are retained;
          without a ``seq`` it is to be sent again under a new number. ``link`` ties it to the one
          before, ``digest`` is of both
ledger    what acknowledged batches held that are not retained any more, merged by the hour
tally     how much was ever dropped and refused here, for `status`
========  =====================================================================================

``at_ms`` columns are of the outbox's own clock, which only counts while an agent runs (`outbox`);
``from_ms`` and ``to_ms`` are what the items say. Bodies are compressed where that pays.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from ct_ops_agent.delivery.entries import Entry, Gap, Lane
from ct_ops_agent.delivery.summary import Summary, Tally, parse_summary

PAGE_BYTES = 4096
_WORTH_COMPRESSING = 256
_FASTEST = 1
_LEDGER_HOUR_MS = 3_600_000
_LONGEST_LEDGER = 2_200
"""Rows: three months of hours. Older ones become one row."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS item (
    id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, at_ms INTEGER NOT NULL, type TEXT NOT NULL,
    count INTEGER NOT NULL, from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS item_in_lane ON item (lane, id, at_ms, count, from_ms);
CREATE TABLE IF NOT EXISTS gap (
    type TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
    from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL, PRIMARY KEY (type, reason)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch (
    id INTEGER PRIMARY KEY, seq INTEGER UNIQUE, at_ms INTEGER NOT NULL, digest BLOB NOT NULL,
    link BLOB NOT NULL, bytes INTEGER NOT NULL, summary TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, digest BLOB NOT NULL, at_ms INTEGER NOT NULL,
    summary TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tally (
    what TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (what, reason)) WITHOUT ROWID;
"""

_MERGED_TALLY = """
INSERT INTO tally (what, reason, count) VALUES (?, ?, ?)
ON CONFLICT (what, reason) DO UPDATE SET count = count + excluded.count
"""
_MERGED_GAP = """
INSERT INTO gap (type, reason, count, from_ms, to_ms) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (type, reason) DO UPDATE SET count = count + excluded.count,
    from_ms = min(from_ms, excluded.from_ms), to_ms = max(to_ms, excluded.to_ms)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """An item in its lane."""

    id: int
    at_ms: int
    tally: Tally
    body: bytes = field(repr=False)


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


class Tables:
    """Statements on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._do = connection.execute

    def create(self) -> None:
        """Make the tables that are not there yet."""
        for statement in _SCHEMA.split(";"):
            self._do(statement)

    # ---- facts -------------------------------------------------------------------------------

    def fact(self, name: str) -> int | str | bytes | None:
        """Return a single value."""
        row = self._do("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_fact(self, name: str, value: int | str | bytes) -> None:
        """Keep a single value."""
        self._do("INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)", (name, value))

    # ---- lanes -------------------------------------------------------------------------------

    def add_entry(self, entry: Entry, at_ms: int) -> None:
        """Append to a lane."""
        tally = entry.tally
        self._do(
            "INSERT INTO item (lane, at_ms, type, count, from_ms, to_ms, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (entry.lane, at_ms, tally.type, tally.count, tally.from_ms, tally.to_ms, _packed(entry.body)),
        )

    def rows(self, lane: Lane) -> Iterator[Row]:
        """Yield a lane, oldest first, reading no further than is asked."""
        found = self._do(
            "SELECT id, at_ms, type, count, from_ms, to_ms, body FROM item WHERE lane = ? ORDER BY id",
            (lane,),
        )
        for row_id, at_ms, type_, count, from_ms, to_ms, body in found:
            yield Row(row_id, at_ms, Tally(type_, count, from_ms, to_ms), _unpacked(body))

    def oldest(self, lane: Lane, most: int) -> list[Row]:
        """Return the oldest of a lane, without their bodies."""
        found = self._do(
            "SELECT id, at_ms, type, count, from_ms, to_ms FROM item WHERE lane = ? ORDER BY id LIMIT ?",
            (lane, most),
        )
        return [
            Row(row_id, at_ms, Tally(type_, count, from_ms, to_ms), b"")
            for row_id, at_ms, type_, count, from_ms, to_ms in found
        ]

    def began_before(self, lane: Lane, at_ms: int) -> bool:
        """Whether the oldest of a lane is older than that."""
        found = self._do("SELECT at_ms FROM item WHERE lane = ? ORDER BY id LIMIT 1", (lane,)).fetchone()
        return found is not None and found[0] < at_ms

    def remove_items(self, ids: list[int]) -> None:
        """Remove from any lane."""
        self._connection.executemany("DELETE FROM item WHERE id = ?", [(row_id,) for row_id in ids])

    def has_news(self, *, with_samples: bool) -> bool:
        """Whether a batch can be made, of samples or of what is more urgent."""
        lanes = (Lane.RESULTS, Lane.SAMPLES if with_samples else Lane.RESULTS)
        found = self._do(
            "SELECT EXISTS (SELECT 1 FROM item WHERE lane IN (?, ?)) OR EXISTS (SELECT 1 FROM gap)"
            " OR EXISTS (SELECT 1 FROM batch WHERE seq IS NULL)",
            lanes,
        )
        return bool(found.fetchone()[0])

    def lane_figures(self) -> Iterator[tuple[Lane, int, int]]:
        """Yield lane, items and time of the oldest."""
        found = self._do("SELECT lane, sum(count), min(from_ms) FROM item GROUP BY lane")
        for lane, count, oldest_ms in found:
            yield Lane(lane), count, oldest_ms

    # ---- gaps --------------------------------------------------------------------------------

    def add_gap(self, gap: Gap) -> None:
        """Say that something was dropped; merged with what was dropped for the same reason."""
        tally = gap.tally
        self._do(_MERGED_GAP, (tally.type, gap.reason, tally.count, tally.from_ms, tally.to_ms))
        self.count(tally.type, gap.reason, tally.count)

    def gaps(self) -> list[Gap]:
        """Return what was dropped and not said yet."""
        found = self._do("SELECT type, count, from_ms, to_ms, reason FROM gap ORDER BY type, reason")
        return [
            Gap(Tally(type_, count, from_ms, to_ms), reason) for type_, count, from_ms, to_ms, reason in found
        ]

    def remove_gap(self, gap: Gap) -> None:
        """It is being said."""
        self._do("DELETE FROM gap WHERE type = ? AND reason = ?", (gap.tally.type, gap.reason))

    def count(self, what: str, reason: str, count: int) -> None:
        """Add to the figures that `status` shows."""
        self._do(_MERGED_TALLY, (what, reason, count))

    def counts(self) -> list[tuple[str, str, int]]:
        """Return what was ever dropped or refused."""
        return list(self._do("SELECT what, reason, count FROM tally ORDER BY what, reason"))

    # ---- batches -----------------------------------------------------------------------------

    def add_batch(self, summary: Summary, content: bytes, at_ms: int) -> None:
        """Keep what a batch holds; it waits for its number."""
        self._do(
            "INSERT INTO batch (at_ms, digest, link, bytes, summary, body) VALUES (?, x'', x'', ?, ?, ?)",
            (at_ms, len(content), summary.to_text(), _packed(content)),
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
        return _unpacked(body)

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

    # ---- space -------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """Return what is in use of the file; what is free in it will be used again."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * PAGE_BYTES

    def free_bytes(self) -> int:
        """Return what is free inside the file."""
        return self._pragma("freelist_count") * PAGE_BYTES

    def _pragma(self, name: str) -> int:
        return int(self._do(f"PRAGMA {name}").fetchone()[0])

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


def _packed(body: bytes) -> bytes:
    """Return a body as it is kept: one byte that says how, then the bytes."""
    if len(body) >= _WORTH_COMPRESSING:
        small = zlib.compress(body, _FASTEST)
        if len(small) < len(body):
            return b"z" + small
    return b"=" + body


def _unpacked(kept: bytes) -> bytes:
    return zlib.decompress(kept[1:]) if kept[:1] == b"z" else kept[1:]
