"""The flow between those who put, the outbox and a stream."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ct_ops_agent.batches import Batch, BatchAck, RefusedItem, Verdict, Welcome
from ct_ops_agent.clock import Clock
from ct_ops_agent.delivery.courier import Courier, Mode
from ct_ops_agent.delivery.entries import Entry, Gap
from ct_ops_agent.delivery.outbox import Outbox, digest_of
from ct_ops_agent.delivery.space import Limits
from ct_ops_agent.delivery.vault import Vault
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.transport.convert_items import ItemCodec
from ct_ops_agent.work import CheckResult, CheckStatus, QueryResult
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

NOW_S = 1_800_000_000.0
STORE = b"s" * 16


@dataclass
class Host:
    """A directory, its clock and its courier."""

    directory: Path
    now_s: float = 0.0
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.courier = self.start()

    def start(self) -> Courier:
        codec = ItemCodec()
        clock = Clock(wall=lambda: NOW_S + self.now_s, monotonic=lambda: self.now_s, sleep=self._sleep)
        self.vault = Vault(
            self.directory,
            codec=codec,
            limits=Limits(2**26, 7 * 86_400_000),
            clock=clock,
            new_id=lambda: os.urandom(16),
        )
        self.courier = Courier(self.vault, codec, clock, lambda: 0.0)
        return self.courier

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def begin(self, *, numbered: bool = True, stored_seq: int = 0, digest: bytes = b"") -> None:
        """Open a stream and be answered."""
        assert self.courier.position is not None
        welcome = Welcome(STORE, stored_seq, digest, 1_000_000) if numbered else None
        self.courier.begin(welcome, "agent-1")

    async def batch(self) -> Batch:
        batch = await asyncio.wait_for(self.courier.next_batch(), 30)
        assert batch is not None
        return batch

    async def nothing_more(self) -> bool:
        """Whether the courier waits for something to happen."""
        waiting = asyncio.ensure_future(self.courier.next_batch())
        for _ in range(10):
            await self.vault.run(Outbox.figures)  # the thread has done what was asked before
            await asyncio.sleep(0)
        done = waiting.done()
        waiting.cancel()
        return not done


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """A host without a stream."""
    host = Host(tmp_path)
    yield host
    await host.courier.finish()
    host.courier.close()


def check(number: int = 0) -> CheckResult:
    return CheckResult("c1", CheckStatus.PASS, "ok", 1, int(NOW_S * 1000) + number)


def query(number: int = 0) -> QueryResult:
    return QueryResult(f"q{number}", "list_ports")


def samples(count: int = 3) -> list[TimedSample]:
    return [TimedSample("up.seconds", int(NOW_S * 1000) + each, 1.0, "s") for each in range(count)]


def ack(batch: Batch, verdict: Verdict = Verdict.STORED, **more: object) -> BatchAck:
    return BatchAck(batch.outbox_id, batch.seq, digest_of(batch.payload), verdict, **more)  # type: ignore[arg-type]  # fields of the test's choice


def body_of(batch: Batch) -> pb.BatchBody:
    return pb.BatchBody.FromString(batch.payload)


async def test_a_result_goes_at_once(host: Host) -> None:
    """It need not wait for a heartbeat."""
    host.begin()
    waiting = asyncio.ensure_future(host.courier.next_batch())
    await host.courier.put(check())

    batch = await asyncio.wait_for(waiting, 30)
    assert batch is not None
    assert (1, 1) == (batch.seq, len(body_of(batch).results))


async def test_samples_go_with_heartbeats(host: Host) -> None:
    """All that wait, and then none until the next one."""
    host.begin()
    assert await host.nothing_more()
    await host.courier.put_samples(samples())
    assert await host.nothing_more()

    host.courier.heartbeat_answered()
    batch = await host.batch()
    assert 3 == len(body_of(batch).samples)


async def test_a_run_without_samples_writes_nothing(host: Host) -> None:
    """Many collectors have nothing to say most of the time."""
    await host.courier.put_samples([])
    host.begin()

    assert await host.nothing_more()


async def test_what_was_put_survives_a_kill(host: Host) -> None:
    """Nothing but the file is left of the first process."""
    await host.courier.put(check())
    await host.courier.put_samples(samples())
    host.vault.close()
    host.start()
    host.begin()

    batch = await host.batch()
    assert (1, 3) == (len(body_of(batch).results), len(body_of(batch).samples))


async def test_many_results_at_once_are_written_together(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk is synced once for them, not once for each."""
    writes = []
    real = Outbox.put

    def put(outbox: Outbox, entries: list[Entry], gaps: list[Gap], *, durable: bool) -> None:
        writes.append(len(entries))
        real(outbox, entries, gaps, durable=durable)

    monkeypatch.setattr(Outbox, "put", put)
    await asyncio.gather(*(host.courier.put(check(number)) for number in range(50)))

    assert 50 == sum(writes)
    assert len(writes) <= 2


async def test_a_result_whose_worker_was_stopped_is_kept_all_the_same(host: Host) -> None:
    """A check that is removed while its result is being written has still run."""
    putting = asyncio.ensure_future(host.courier.put(check()))
    await asyncio.sleep(0)
    putting.cancel()
    await host.courier.finish()
    host.begin()

    assert 1 == len(body_of(await host.batch()).results)


async def test_the_server_slows_delivery_down(host: Host) -> None:
    """It says so beside STORED."""
    host.begin()
    await host.courier.put(check(1))
    batch = await host.batch()
    await host.courier.put(check(2))
    host.courier.answered(ack(batch, retry_after_s=2.5))

    await host.batch()
    assert [2.5] == host.waits


async def test_later_waits_longer_each_time_and_sends_the_same(host: Host) -> None:
    """A database that is down is not asked all the time; the bytes stay the same."""
    host.begin()
    await host.courier.put(check())
    batches = []
    for _ in range(4):
        batches.append(await host.batch())
        host.courier.answered(ack(batches[-1], Verdict.LATER))
    batches.append(await host.batch())

    assert 1 == len(set(batches))
    assert [1.0, 2.0, 4.0, 8.0] == host.waits


async def test_a_mismatch_is_compared_and_delivery_goes_on(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """After a moment: a server that never agrees is not asked in a busy loop."""
    host.begin()
    await host.courier.put(check())
    batch = await host.batch()
    host.courier.answered(ack(batch, Verdict.MISMATCH, stored_seq=7, stored_digest=b"other"))

    again = await host.batch()
    assert (1, batch.payload) == (again.seq, again.payload)
    assert batch.outbox_id != again.outbox_id
    assert [1.0] == host.waits
    assert "another history" in caplog.text


async def test_an_acknowledgement_that_came_with_the_end_of_a_stream_is_not_needed(host: Host) -> None:
    """The next welcome says the same."""
    host.begin()
    await host.courier.put(check())
    batch = await host.batch()
    host.courier.answered(ack(batch))
    host.begin(stored_seq=1, digest=digest_of(batch.payload))

    assert await host.nothing_more()


async def test_refused_items_are_said_and_forgotten(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """In the log, and in the figures."""
    host.begin()
    await host.courier.put(check())
    batch = await host.batch()
    host.courier.answered(ack(batch, refused=(RefusedItem(0, "unknown_check"),)))
    host.now_s += 10

    assert await host.nothing_more()
    assert "item 0 of batch 1 was refused: unknown_check" in caplog.text
    host.now_s += 10
    await host.courier.put(check(2))
    await host.courier.finish()
    assert ("refused", "unknown_check", 1) in host.courier.report.figures.counts


async def test_an_existing_server_gets_results_in_frames(host: Host) -> None:
    """Check results with the next heartbeat; what somebody waits for asks for a frame at once."""
    await host.courier.put(check())
    host.begin(numbered=False)
    assert await host.nothing_more()
    waiting = asyncio.ensure_future(host.courier.next_batch())
    await host.courier.put(query())

    assert await asyncio.wait_for(waiting, 5) is None
    body = pb.BatchBody.FromString(host.courier.take_carried())
    assert ["check_result", "query_result"] == [item.WhichOneof("item") for item in body.results]
    assert b"" == host.courier.take_carried()
    assert Mode.AT_MOST_ONCE is host.courier.report.mode


async def test_an_existing_server_has_no_place_for_samples(host: Host) -> None:
    """They are not kept; a server of ours will be told how many."""
    host.begin(numbered=False)
    await host.courier.put_samples(samples(5))
    host.begin()

    (gap,) = body_of(await host.batch()).gaps
    assert ("sample", 5, "the server takes no samples") == (gap.type, gap.count, gap.reason)


async def test_results_taken_for_a_frame_that_never_went_are_not_lost_with_a_change_of_servers(
    host: Host,
) -> None:
    """They go back into the outbox, and into a batch."""
    await host.courier.put(check())
    host.begin(numbered=False)
    assert await host.nothing_more()
    host.begin()

    assert b"" == host.courier.take_carried()
    assert 1 == len(body_of(await host.batch()).results)


async def test_a_slow_disk_stops_nothing_but_the_outbox(host: Host) -> None:
    """A sync may take as long as it likes: the event loop goes on."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(_outbox: Outbox) -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)

    syncing = asyncio.ensure_future(host.vault.run(slow))
    putting = asyncio.ensure_future(host.courier.put(check()))
    await asyncio.wait_for(begun.wait(), 30)
    assert not putting.done()

    go_on.set()
    await asyncio.gather(syncing, putting)
