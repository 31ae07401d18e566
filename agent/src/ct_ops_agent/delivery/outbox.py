"""The outbox: each step of delivery as one transaction on one SQLite connection.

What is promised:

* what `put` was given, durably or not, survives the end of the process at any moment; durably, also the
  end of power. So do a frozen batch and every decision;
* one batch at a time is frozen, as number acknowledged + 1, and its bytes never change;
* what is not frozen may be dropped, and every drop becomes a gap (`space`);
* nothing here waits for a clock that may jump: ages are counted by a clock of the outbox's own, which
  goes on while an agent runs and is kept in the file.

No thread, no event loop and no network here; `courier` has them. Errors of SQLite leave as they are, with
the transaction undone.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ct_ops_agent.batches import Batch, BatchAck, Position
from ct_ops_agent.delivery.batches import Batches, BatchRow
from ct_ops_agent.delivery.draft import Draft, Room
from ct_ops_agent.delivery.entries import Codec, Entry, Gap, Lane, Leftovers
from ct_ops_agent.delivery.figures import Figures
from ct_ops_agent.delivery.position import NOTHING_GONE, Ours, Step, Theirs, decide
from ct_ops_agent.delivery.space import Limits, Space
from ct_ops_agent.delivery.tables import Row, Tables
from ct_ops_agent.delivery.transactions import Transactions

SYNC_EVERY_MS = 30_000
"""A power cut costs no more than this much of what was not put durably."""

GONE = "acknowledged, gone on the server"
TOO_LARGE = "larger than the server takes"
YEAR_2000_MS = 946_684_800_000
_WORTH_GIVING_BACK = 1024 * 1024


class Outbox:
    """One outbox. Not safe for several threads at a time."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        codec: Codec,
        limits: Limits,
        new_id: Callable[[], bytes],
        monotonic: Callable[[], float],
    ) -> None:
        """Take over a connection whose isolation level is ``None``.

        Args:
            connection: to a file of its own or to memory.
            codec: makes bytes of gaps.
            limits: how much is kept.
            new_id: 16 random bytes.
            monotonic: seconds, never going back.
        """
        self._connection = connection
        self._transaction = Transactions(connection)
        self._tables = Tables(connection)
        self._batches = Batches(connection)
        self._space = Space(self._tables, self._batches, limits)
        self._codec = codec
        self._new_id = new_id
        self._monotonic = monotonic
        with self._transaction(durable=True):
            self._tables.create()
            if self._tables.fact("outbox_id") is None:
                self._begin_at_zero()
        self._clock_began = monotonic()
        self._clock_base_ms = int(self._tables.fact("clock_ms") or 0)
        self._synced_at_ms = self._now_ms()
        self._position = self._read_position()

    @property
    def position(self) -> Position:
        """How far this outbox was acknowledged."""
        return self._position

    # ---- what is kept ------------------------------------------------------------------------

    def put(self, entries: Sequence[Entry], gaps: Sequence[Gap] = (), *, durable: bool) -> None:
        """Keep entries, and what is known to be lost already."""
        now_ms = self._now_ms()
        with self._step(durable=durable or now_ms - self._synced_at_ms >= SYNC_EVERY_MS):
            for entry in entries:
                self._tables.add_entry(entry, now_ms)
            for gap in gaps:
                self._tables.add_gap(gap)
            self._space.trim(self._acked_seq(), now_ms)

    def leftovers(self) -> Leftovers:
        """Return what has not been delivered, and what was."""
        waiting = self._batches.unacknowledged(self._acked_seq())
        return Leftovers(
            batches=[(batch.summary, self._batches.content(batch)) for batch in waiting],
            entries=[Entry(lane, row.tally, row.body) for lane in Lane for row in self._tables.rows(lane)],
            gaps=self._tables.gaps(),
            delivered=self._batches.summary_of_delivered(self._acked_seq()),
        )

    def adopt(self, leftovers: Leftovers) -> None:
        """Take over what another outbox leaves: to be sent under numbers of this one."""
        now_ms = self._now_ms()
        with self._step(durable=True):
            for summary, content in leftovers.batches:
                self._batches.add_batch(summary, content, now_ms)
            for entry in leftovers.entries:
                self._tables.add_entry(entry, now_ms)
            for gap in leftovers.gaps:
                self._tables.add_gap(gap)
            if leftovers.delivered:
                # Gone with a server that comes back at our number: it may have been delivered after that.
                self._batches.add_to_ledger(self._acked_seq() + 1, b"\0", leftovers.delivered, now_ms)
            self._space.trim(self._acked_seq(), now_ms)

    # ---- what the server says ----------------------------------------------------------------

    def compare(self, theirs: Theirs) -> Step:
        """Find out what the server has, and arrange to send what it has not."""
        if theirs.outbox_id != self._position.outbox_id:
            return Step.GO_ON  # it was asked before this outbox began
        with self._step(durable=True):
            decision = decide(self._ours(theirs.seq), theirs)
            self._say_what_is_gone(decision.gone_after)
            if decision.step is Step.START_OVER:
                self._start_over()
            elif decision.step is not Step.GO_ON:
                self._set_acked(decision.acked_seq, theirs.digest)
            self._tables.set_fact("store_id", theirs.store_id)
            self._tables.set_fact("agent_id", theirs.agent_id)
        return decision.step

    def stored(self, ack: BatchAck, wall_ms: int) -> None:
        """The server has a batch. What was said already, or of another outbox, is ignored."""
        batch = self._batches.batch_of(ack.seq)
        known = (self._position.outbox_id, self._acked_seq() + 1, batch.digest if batch else None)
        if batch is None or known != (ack.outbox_id, ack.seq, ack.digest):
            return
        with self._step(durable=False):
            self._set_acked(ack.seq, ack.digest)
            self._batches.begin_retaining(batch, self._now_ms())
            self._tables.set_fact("acked_at_ms", wall_ms)
            for refused in ack.refused:
                self._tables.count("refused", refused.reason, 1)
            self._space.trim(ack.seq, self._now_ms())
        self._give_space_back()

    # ---- what is sent ------------------------------------------------------------------------

    def next_batch(self, room: Room, wall_ms: int, *, with_samples: bool) -> Batch | None:
        """Return what is to be sent now: the frozen batch, or a new one; ``None``: there is nothing.

        Args:
            room: of a payload, for this server.
            wall_ms: this host's clock.
            with_samples: whether samples may be sent, or only what is more urgent.
        """
        batch = self._batches.batch_of(self._acked_seq() + 1)
        if batch and batch.bytes > room.most_bytes:
            self._give_up_too_large(room.most_bytes)
            batch = None
        if batch is None and self._tables.has_news(with_samples=with_samples):
            with self._step(durable=True):
                batch = self._freeze(Draft(room), wall_ms, with_samples=with_samples)
        if batch is None or batch.seq is None:
            return None
        return Batch(self._position.outbox_id, batch.seq, self._batches.payload(batch))

    def take_results(self, most_bytes: int) -> list[Entry]:
        """Remove the oldest results and return them, for a server that takes no batches."""
        taken: list[Row] = []
        with self._step(durable=False):
            for row in self._tables.rows(Lane.RESULTS):
                most_bytes -= len(row.body)
                if taken and most_bytes < 0:
                    break
                taken.append(row)
            self._tables.remove_items([row.id for row in taken])
        return [Entry(Lane.RESULTS, row.tally, row.body) for row in taken]

    def figures(self) -> Figures:
        """Return how full it is."""
        lanes = {lane: (count, oldest_ms) for lane, count, oldest_ms in self._tables.lane_figures()}
        acked_at_ms = self._tables.fact("acked_at_ms")
        return Figures(
            outbox_id=self._position.outbox_id,
            acked_seq=self._position.acked_seq,
            acked_at_ms=None if acked_at_ms is None else int(acked_at_ms),
            used_bytes=self._tables.used_bytes(),
            results=lanes.get(Lane.RESULTS, (0, 0))[0],
            samples=lanes.get(Lane.SAMPLES, (0, 0))[0],
            batches=self._batches.number_of_unacknowledged(self._position.acked_seq),
            oldest_ms=min((oldest_ms for _, oldest_ms in lanes.values()), default=None),
            counts=tuple(self._tables.counts()),
        )

    def close(self) -> None:
        """Close the connection; everything was committed already."""
        self._connection.close()

    # ---- freezing ----------------------------------------------------------------------------

    def _freeze(self, draft: Draft, wall_ms: int, *, with_samples: bool) -> BatchRow | None:
        self._fill(draft, Lane.RESULTS)
        self._fill_with_gaps(draft, wall_ms)
        waiting = self._batches.oldest_unnumbered()
        if waiting is None and with_samples:
            self._fill(draft, Lane.SAMPLES)
        if draft.parts:
            self._batches.add_batch(draft.summary, b"".join(draft.parts), self._now_ms())
            waiting = self._batches.newest_batch()
        if waiting is None:
            return None
        seq, link = self._acked_seq() + 1, self._codec.encode_link(self._bytes_fact("acked_digest"))
        self._batches.number(waiting, seq, link, digest_of(self._batches.content(waiting) + link))
        return self._batches.batch_of(seq)

    def _fill(self, draft: Draft, lane: Lane) -> None:
        """Move the oldest of a lane into a draft until it is full."""
        moved: list[int] = []
        for row in self._tables.rows(lane):
            if len(row.body) > draft.room.most_bytes:
                self._tables.add_gap(Gap(row.tally, TOO_LARGE))
            elif draft.has_room_for(row.body):
                draft.add(row.body, row.tally)
            else:
                break
            moved.append(row.id)
        self._tables.remove_items(moved)

    def _fill_with_gaps(self, draft: Draft, wall_ms: int) -> None:
        for gap in self._tables.gaps():
            said = possible(gap, wall_ms)
            body = self._codec.encode_gap(said)
            if not draft.has_room_for(body):
                break
            draft.add(body, said.tally)
            self._tables.remove_gap(gap)

    def _give_up_too_large(self, most_bytes: int) -> None:
        with self._step(durable=True):
            self._start_over()
            for batch in self._batches.unacknowledged(0):
                if batch.bytes > most_bytes:
                    self._space.drop_batch(batch, TOO_LARGE)

    # ---- the position ------------------------------------------------------------------------

    def _ours(self, their_seq: int) -> Ours:
        acked = self._acked_seq()
        retained = self._batches.oldest_retained(acked)
        return Ours(
            acked_seq=acked,
            last_seq=max(self._batches.last_seq() or 0, acked),
            retained_from=acked + 1 if retained is None or retained.seq is None else retained.seq,
            digest_at_theirs=self._digest_at(their_seq),
            store_id=self._bytes_fact("store_id"),
            agent_id=str(self._tables.fact("agent_id") or ""),
        )

    def _digest_at(self, seq: int) -> bytes | None:
        if seq == 0:
            return b""
        if seq == self._acked_seq():
            return self._bytes_fact("acked_digest")
        batch = self._batches.batch_of(seq)
        return batch.digest if batch else self._batches.digest_in_ledger(seq)

    def _start_over(self) -> None:
        self._batches.take_numbers_away()
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        self._tables.set_fact("outbox_id", self._new_id())
        self._set_acked(0, b"")

    def _set_acked(self, seq: int, digest: bytes) -> None:
        self._tables.set_fact("acked_seq", seq)
        self._tables.set_fact("acked_digest", digest)

    def _acked_seq(self) -> int:
        return int(self._tables.fact("acked_seq") or 0)

    def _say_what_is_gone(self, gone_after: int) -> None:
        if gone_after == NOTHING_GONE:
            return
        for tally in self._batches.tear_out(gone_after):
            self._tables.add_gap(Gap(tally, GONE))

    def _read_position(self) -> Position:
        return Position(
            self._bytes_fact("outbox_id"),
            self._acked_seq(),
            self._bytes_fact("acked_digest"),
            self._bytes_fact("store_id"),
        )

    def _bytes_fact(self, name: str) -> bytes:
        value = self._tables.fact(name)
        return value if isinstance(value, bytes) else b""

    # ---- time and transactions ---------------------------------------------------------------

    def _now_ms(self) -> int:
        return self._clock_base_ms + int((self._monotonic() - self._clock_began) * 1000)

    @contextmanager
    def _step(self, *, durable: bool) -> Iterator[None]:
        """Run a block as one transaction, and know the position afterwards."""
        try:
            with self._transaction(durable=durable):
                yield
                self._tables.set_fact("clock_ms", self._now_ms())
        except BaseException:
            self._tables.read_again()
            raise
        self._position = self._read_position()
        if durable:
            self._synced_at_ms = self._now_ms()

    def _give_space_back(self) -> None:
        """Make the file smaller, a little at a time, when much of it is free."""
        if self._tables.free_bytes() > self._tables.used_bytes() + _WORTH_GIVING_BACK:
            self._connection.execute("PRAGMA incremental_vacuum(256)").fetchall()


def possible(gap: Gap, wall_ms: int) -> Gap:
    """Return a gap with times that a server believes: items from before a clock was set have others."""
    tally = gap.tally
    to_ms = max(YEAR_2000_MS, min(tally.to_ms, wall_ms))
    from_ms = max(YEAR_2000_MS, min(tally.from_ms, to_ms))
    return replace(gap, tally=replace(tally, from_ms=from_ms, to_ms=to_ms))


def digest_of(payload: bytes) -> bytes:
    """Return what a batch is known by."""
    return hashlib.sha256(payload).digest()[:16]
