"""The outbox by hand: what the histories try at random, one thing at a time."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import dataclass, field

import pytest

from ct_ops_agent.batches import Batch, BatchAck, RefusedItem, Verdict
from ct_ops_agent.delivery.draft import Room
from ct_ops_agent.delivery.entries import Entry, Gap, Lane, entries_of_samples
from ct_ops_agent.delivery.outbox import Outbox, digest_of
from ct_ops_agent.delivery.position import Step, Theirs
from ct_ops_agent.delivery.space import Limits
from ct_ops_agent.delivery.summary import Tally
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.transport.convert_items import ItemCodec
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

CODEC = ItemCodec()
NOW_MS = 1_800_000_000_000
HOUR_S = 3600.0
DAY_MS = 86_400_000
ROOM = Room(4_000, 50_000)
STORE, AGENT = b"s" * 16, "agent-1"


@dataclass
class Host:
    """A directory and its clock."""

    limits: Limits = field(default_factory=lambda: Limits(2**40, 7 * DAY_MS))
    connection: sqlite3.Connection = field(
        default_factory=lambda: sqlite3.connect(":memory:", isolation_level=None)
    )
    now_s: float = 0.0
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def outbox(self) -> Outbox:
        """Start a process on it, whose monotonic clock begins anew."""
        began = self.now_s
        return Outbox(
            self.connection,
            codec=CODEC,
            limits=self.limits,
            new_id=lambda: bytes([next(self.ids)]) * 16,
            monotonic=lambda: self.now_s - began,
        )


def sample(at_ms: int = NOW_MS, value: float = 1.0) -> list[Entry]:
    return entries_of_samples([TimedSample("up.seconds", at_ms, value, "s")], CODEC)


def result(size: int = 20, at_ms: int = NOW_MS) -> Entry:
    message = pb.CheckResult(check_id="c", output="o" * size, ran_at_ms=at_ms)
    body = pb.BatchBody(results=[pb.ResultItem(check_result=message)]).SerializeToString()
    return Entry(Lane.RESULTS, Tally("check_result", 1, at_ms, at_ms), body)


def next_batch(outbox: Outbox, room: Room = ROOM, *, with_samples: bool = True) -> Batch | None:
    return outbox.next_batch(room, NOW_MS + DAY_MS, with_samples=with_samples)


def body_of(batch: Batch | None) -> pb.BatchBody:
    assert batch is not None
    return pb.BatchBody.FromString(batch.payload)


def stored(batch: Batch | None, *refused: RefusedItem) -> BatchAck:
    assert batch is not None
    return BatchAck(batch.outbox_id, batch.seq, digest_of(batch.payload), Verdict.STORED, refused=refused)


def deliver(outbox: Outbox, entries: list[Entry]) -> Batch:
    """Put entries and bring them home."""
    outbox.put(entries, durable=True)
    batch = next_batch(outbox)
    outbox.stored(stored(batch), NOW_MS)
    assert batch is not None
    return batch


def welcome(
    outbox: Outbox, seq: int = 0, digest: bytes = b"", store: bytes = STORE, agent: str = AGENT
) -> Step:
    return outbox.compare(Theirs(outbox.position.outbox_id, seq, digest, store, agent))


def gaps_in(outbox: Outbox) -> list[tuple[str, int, str]]:
    """Send all there is and return the gaps in it."""
    found = []
    while batch := next_batch(outbox):
        found += [(gap.type, gap.count, gap.reason) for gap in body_of(batch).gaps]
        outbox.stored(stored(batch), NOW_MS)
    return found


def test_results_go_before_gaps_before_samples() -> None:
    """In one batch where there is room, whatever came first."""
    outbox = Host().outbox()
    outbox.put([*sample(), result()], [Gap(Tally("sample", 2, NOW_MS, NOW_MS), "why")], durable=False)

    urgent = body_of(next_batch(outbox))
    assert (1, 1, 1) == (len(urgent.results), len(urgent.gaps), len(urgent.samples))


def test_samples_wait_where_only_urgent_things_may_go() -> None:
    """Until a heartbeat lets them."""
    outbox = Host().outbox()
    outbox.put(sample(), durable=False)

    assert next_batch(outbox, with_samples=False) is None
    assert 1 == len(body_of(next_batch(outbox)).samples)


def test_one_batch_is_frozen_until_it_is_acknowledged() -> None:
    """Its bytes never change, also across a restart; what comes later has the next number."""
    host = Host()
    outbox = host.outbox()
    outbox.put([result()], durable=True)
    first = next_batch(outbox)
    outbox.put([result(at_ms=NOW_MS + 1)], durable=True)

    again = next_batch(host.outbox())

    assert first == again
    outbox.stored(stored(first), NOW_MS)
    second = next_batch(outbox)
    assert second is not None
    assert (2, 1) == (second.seq, len(body_of(second).results))


def test_a_batch_holds_what_there_is_room_for_the_oldest_first() -> None:
    """And a giant goes alone."""
    outbox = Host().outbox()
    outbox.put(
        [result(10_000, NOW_MS), *(result(1_000, NOW_MS + each) for each in range(1, 5))], durable=True
    )

    sizes = []
    while batch := next_batch(outbox):
        sizes.append(len(body_of(batch).results))
        outbox.stored(stored(batch), NOW_MS)

    assert [1, 3, 1] == sizes


def test_what_the_server_can_never_take_is_a_gap_and_blocks_nothing() -> None:
    """Neither before it was frozen nor after."""
    outbox = Host().outbox()
    outbox.put([result(10_000), result()], durable=True)
    assert next_batch(outbox, Room(20_000, 20_000)) is not None

    small = Room(500, 500)
    outbox.put([result(2_000, NOW_MS + 1)], durable=True)
    batch = next_batch(outbox, small)

    said = {(gap.type, gap.count, gap.reason) for gap in body_of(batch).gaps}
    assert {("check_result", 3, "larger than the server takes")} == said


def test_an_acknowledgement_that_was_lost_is_found_out() -> None:
    """The server is one ahead, with the digest of what was frozen (b)."""
    outbox = Host().outbox()
    outbox.put([result()], durable=True)
    batch = next_batch(outbox)

    assert batch is not None
    assert Step.LOST_ACKNOWLEDGEMENT is welcome(outbox, 1, digest_of(batch.payload))
    assert (1, None) == (outbox.position.acked_seq, next_batch(outbox))


def test_a_server_restored_from_last_night_gets_the_same_bytes_again() -> None:
    """And nothing is said to be missing (c)."""
    outbox = Host().outbox()
    welcome(outbox)
    batches = [deliver(outbox, [result(at_ms=NOW_MS + each)]) for each in range(4)]

    assert Step.REWIND is welcome(outbox, 2, digest_of(batches[1].payload), store=b"r" * 16)

    again = []
    while batch := next_batch(outbox):
        again.append(batch)
        outbox.stored(stored(batch), NOW_MS)
    assert batches[2:] == again


def test_a_server_restored_from_last_month_is_told_what_it_misses() -> None:
    """What is retained comes again under a new id; of the rest it is said how much, and from when to when."""
    host = Host()
    outbox = host.outbox()
    welcome(outbox)
    first = deliver(outbox, [result()])
    host.now_s += 30 * HOUR_S
    for each in (1, 2):
        deliver(outbox, [result(at_ms=NOW_MS + each)])
    host.now_s += 30 * HOUR_S
    last = deliver(outbox, [result(at_ms=NOW_MS + 3)])
    old_id = outbox.position.outbox_id

    assert Step.START_OVER is welcome(outbox, 1, digest_of(first.payload), store=b"r" * 16)

    gap = next_batch(outbox)
    assert gap is not None
    assert (1, [("check_result", 2, NOW_MS + 1, NOW_MS + 2, "acknowledged, gone on the server")]) == (
        gap.seq,
        [(each.type, each.count, each.from_ms, each.to_ms, each.reason) for each in body_of(gap).gaps],
    )
    outbox.stored(stored(gap), NOW_MS)
    resent = next_batch(outbox)
    assert body_of(last).results == body_of(resent).results
    assert old_id != outbox.position.outbox_id


def test_another_server_gets_what_is_retained_and_is_told_of_no_gap() -> None:
    """What was delivered to the first one is there."""
    host = Host()
    outbox = host.outbox()
    welcome(outbox)
    deliver(outbox, [result()])
    host.now_s += 30 * HOUR_S
    deliver(outbox, [result(at_ms=NOW_MS + 1)])

    assert Step.START_OVER is welcome(outbox, 0, b"", store=b"b" * 16, agent="agent-9")
    assert [] == gaps_in(outbox)


def test_attack_two_copies_that_number_the_same_items_alike_after_different_ones_are_told_apart() -> None:
    """A digest stands for the whole history, so neither takes the other's batches for its own."""
    host = Host()
    outbox = host.outbox()
    outbox.put([result(3_000, NOW_MS)], durable=True)
    twin_host = Host()
    twin_host.connection.deserialize(host.connection.serialize())
    twin = twin_host.outbox()
    twin.put([result(at_ms=NOW_MS + 5)], durable=True)
    outbox.put([], [Gap(Tally("sample", 1, NOW_MS, NOW_MS), "why")], durable=True)
    mine, theirs = next_batch(outbox), next_batch(twin)
    outbox.stored(stored(mine), NOW_MS)
    twin.stored(stored(theirs), NOW_MS)
    for each in (outbox, twin):
        each.put([result(at_ms=NOW_MS + 9)], durable=True)

    second, twins_second = next_batch(outbox), next_batch(twin)

    assert second is not None
    assert twins_second is not None
    assert body_of(second).results == body_of(twins_second).results
    assert digest_of(second.payload) != digest_of(twins_second.payload)


def test_answers_about_something_else_change_nothing() -> None:
    """Of another outbox, of another number, of other bytes, or said twice."""
    outbox = Host().outbox()
    outbox.put([result()], durable=True)
    batch = next_batch(outbox)
    good = stored(batch)
    for wrong in (
        BatchAck(b"x" * 16, 1, good.digest, Verdict.STORED),
        BatchAck(good.outbox_id, 2, good.digest, Verdict.STORED),
        BatchAck(good.outbox_id, 1, b"other", Verdict.STORED),
    ):
        outbox.stored(wrong, NOW_MS)
    assert Step.GO_ON is outbox.compare(Theirs(b"x" * 16, 9, b"d", STORE, AGENT))
    assert 0 == outbox.position.acked_seq

    outbox.stored(good, NOW_MS)
    outbox.stored(good, NOW_MS)
    assert 1 == outbox.position.acked_seq


def test_refused_items_are_counted_and_forgotten() -> None:
    """They block nothing."""
    outbox = Host().outbox()
    outbox.put([result()], durable=True)
    batch = next_batch(outbox)
    outbox.stored(stored(batch, RefusedItem(0, "unknown_check")), NOW_MS)

    assert (("refused", "unknown_check", 1),) == outbox.figures().counts
    assert next_batch(outbox) is None


def test_what_is_too_old_is_dropped_and_said() -> None:
    """By the time an agent ran, whatever the wall clock does."""
    host = Host()
    outbox = host.outbox()
    outbox.put(sample(), durable=False)
    host.now_s += 6 * 24 * HOUR_S
    outbox.put([result()], durable=True)
    host.now_s += 2 * 24 * HOUR_S
    outbox.put([], durable=False)

    assert [("sample", 1, "older than the outbox keeps")] == gaps_in(outbox)


def test_a_clock_that_jumps_years_ages_nothing() -> None:
    """Attack: a host that boots in 1970 keeps what it measures, and its gaps have times that servers believe."""
    host = Host()
    outbox = host.outbox()
    outbox.put(sample(at_ms=1_000), [Gap(Tally("sample", 1, 1_000, 9 * NOW_MS), "why")], durable=False)
    outbox.put(sample(), durable=False)

    body = body_of(next_batch(outbox))
    assert [1_000, NOW_MS] == [each.ts_ms for each in body.samples]
    assert (946_684_800_000, NOW_MS + DAY_MS) == (body.gaps[0].from_ms, body.gaps[0].to_ms)


def test_a_restart_does_not_make_anything_younger_or_older() -> None:
    """The outbox's clock goes on where it stopped."""
    host = Host()
    host.outbox().put(sample(), durable=False)
    for _ in range(8):
        outbox = host.outbox()
        host.now_s += 24 * HOUR_S
        outbox.put([], durable=False)

    assert [("sample", 1, "older than the outbox keeps")] == gaps_in(host.outbox())


def test_a_full_outbox_gives_up_the_oldest_samples_and_says_how_many() -> None:
    """Results stay for as long as there are samples."""
    host = Host(Limits(150_000, 7 * DAY_MS))
    outbox = host.outbox()
    outbox.put([result(200)], durable=True)
    for each in range(300):
        noise = [
            TimedSample(f'up.seconds{{n="{number}"}}', NOW_MS + each, number * 1.1) for number in range(40)
        ]
        outbox.put(entries_of_samples(noise, CODEC), durable=False)

    figures = outbox.figures()
    assert figures.used_bytes <= 150_000
    assert 1 == figures.results
    gaps = gaps_in(outbox)
    assert {("sample", "the outbox was full")} == {(type_, reason) for type_, _, reason in gaps}
    assert 300 * 40 == sum(count for _, count, _ in gaps) + figures.samples


def test_the_batch_that_was_sent_is_never_given_up() -> None:
    """It may be on the server under its number already."""
    host = Host(Limits(60_000, DAY_MS))
    outbox = host.outbox()
    outbox.put([result(3_000)], durable=True)
    frozen = next_batch(outbox)
    host.now_s += 48 * HOUR_S
    for each in range(100):
        outbox.put([result(2_000, NOW_MS + each)], durable=True)

    assert frozen == next_batch(outbox)


def test_results_are_taken_out_for_a_server_without_batches() -> None:
    """Once, the oldest first, as much as fits in a frame."""
    outbox = Host().outbox()
    outbox.put([result(1_000, NOW_MS + each) for each in range(3)], durable=True)

    assert [2, 1, 0] == [len(outbox.take_results(2_500)) for _ in range(3)]


def test_one_outbox_takes_over_what_another_leaves() -> None:
    """Frozen, waiting and gaps; and if the server goes back, what the other one had delivered is missed."""
    host, other_host = Host(), Host()
    outbox, other = host.outbox(), other_host.outbox()
    welcome(outbox)
    deliver(other, [result()])
    other.put([result(at_ms=NOW_MS + 1)], durable=True)
    next_batch(other)
    other.put(sample(), [Gap(Tally("sample", 7, NOW_MS, NOW_MS), "why")], durable=True)

    outbox.adopt(other.leftovers())

    first = body_of(next_batch(outbox))
    outbox.stored(stored(next_batch(outbox)), NOW_MS)
    second = body_of(next_batch(outbox))
    assert (7, 1) == (first.gaps[0].count, len(second.results))
    outbox.stored(stored(next_batch(outbox)), NOW_MS)
    assert 1 == len(body_of(next_batch(outbox)).samples)
    assert Step.START_OVER is welcome(outbox, 0, b"x", store=b"r" * 16)
    assert ("check_result", 1, "acknowledged, gone on the server") in gaps_in(outbox)


def test_the_ledger_does_not_grow_for_ever() -> None:
    """Old hours become one row, and are still said when they are gone."""
    host = Host()
    outbox = host.outbox()
    welcome(outbox)
    for each in range(2_300):
        deliver(outbox, [result(at_ms=NOW_MS + each)])
        host.now_s += 2 * HOUR_S

    rows = host.connection.execute("SELECT count(*) FROM ledger").fetchone()[0]
    assert rows <= 2_200
    welcome(outbox, 0, b"x", store=b"r" * 16)
    gone = [count for _, count, reason in gaps_in(outbox) if reason.startswith("acknowledged")]
    retained = 2_300 - sum(gone)
    assert 0 < retained < 20


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_commit_is_synced(durable: bool) -> None:  # noqa: FBT001 - the behaviour under test
    """And one that is not survives the end of the process all the same (the histories)."""
    host = Host()
    outbox = host.outbox()
    outbox.put([result()], durable=durable)

    level = host.connection.execute("PRAGMA synchronous").fetchone()[0]
    assert (2 if durable else 1) == level


def test_what_was_not_put_durably_is_synced_now_and_then() -> None:
    """A power cut costs half a minute of samples at most, also when nothing can be sent."""
    host = Host()
    outbox = host.outbox()
    host.now_s += 31
    outbox.put(sample(), durable=False)

    assert 2 == host.connection.execute("PRAGMA synchronous").fetchone()[0]
