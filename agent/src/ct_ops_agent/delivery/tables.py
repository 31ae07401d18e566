"""The outbox's tables, and what is in the lanes: one method for each statement or two.

Who calls is inside a transaction of `outbox`. What has a number is in `batches`.

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
from collections.abc import Iterator
from dataclasses import dataclass, field

from ct_ops_agent.delivery.entries import Entry, Gap, Lane
from ct_ops_agent.delivery.packing import packed, unpacked
from ct_ops_agent.delivery.summary import Tally

PAGE_BYTES = 4096
FORMAT = 1
"""Of the file; one of a later version is not read."""

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


class Tables:
    """Statements on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._do = connection.execute
        self._facts: dict[str, int | str | bytes] | None = None

    def create(self) -> None:
        """Make the tables that are not there yet."""
        for statement in _SCHEMA.split(";"):
            self._do(statement)
        self._do(f"PRAGMA user_version = {FORMAT}")

    # ---- facts -------------------------------------------------------------------------------

    def fact(self, name: str) -> int | str | bytes | None:
        """Return a single value. Read once: nobody else writes them."""
        if self._facts is None:
            self._facts = dict(self._do("SELECT name, value FROM fact").fetchall())
        return self._facts.get(name)

    def set_fact(self, name: str, value: int | str | bytes) -> None:
        """Keep a single value."""
        self._do("INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)", (name, value))
        if self._facts is not None:
            self._facts[name] = value

    def read_again(self) -> None:
        """Forget what was read: a transaction was undone."""
        self._facts = None

    # ---- lanes -------------------------------------------------------------------------------

    def add_entry(self, entry: Entry, at_ms: int) -> None:
        """Append to a lane."""
        tally = entry.tally
        self._do(
            "INSERT INTO item (lane, at_ms, type, count, from_ms, to_ms, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (entry.lane, at_ms, tally.type, tally.count, tally.from_ms, tally.to_ms, packed(entry.body)),
        )

    def rows(self, lane: Lane) -> Iterator[Row]:
        """Yield a lane, oldest first, reading no further than is asked."""
        found = self._do(
            "SELECT id, at_ms, type, count, from_ms, to_ms, body FROM item WHERE lane = ? ORDER BY id",
            (lane,),
        )
        for row_id, at_ms, type_, count, from_ms, to_ms, body in found:
            yield Row(row_id, at_ms, Tally(type_, count, from_ms, to_ms), unpacked(body))

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

    # ---- space -------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """Return what is in use of the file; what is free in it will be used again."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * PAGE_BYTES

    def free_bytes(self) -> int:
        """Return what is free inside the file."""
        return self._pragma("freelist_count") * PAGE_BYTES

    def _pragma(self, name: str) -> int:
        return int(self._do(f"PRAGMA {name}").fetchone()[0])
