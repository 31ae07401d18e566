"""A day without the server, at default settings, by a simulated clock: everything fits, and comes home."""

from __future__ import annotations

import heapq
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from ct_ops_agent.batches import BatchAck, Verdict
from ct_ops_agent.catalog import Catalog, runs_here
from ct_ops_agent.collector import CollectorError
from ct_ops_agent.config.schema import KEYS
from ct_ops_agent.delivery.draft import Room
from ct_ops_agent.delivery.entries import entries_of_samples, entry_of_result
from ct_ops_agent.delivery.opening import WAL_BYTES, open_file
from ct_ops_agent.delivery.outbox import Outbox, digest_of
from ct_ops_agent.delivery.space import Limits
from ct_ops_agent.gathering.readings import Intake
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.transport.convert_items import ItemCodec
from ct_ops_agent.work import CheckResult, CheckStatus
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

CODEC = ItemCodec()
DAY_S = 86_400
MIB = 1024 * 1024
DEFAULTS = {key.path: key.default for key in KEYS}
START_S = 1_800_000_000
HOSTS = 2
"""This host's series so many times over: servers have more disks and interfaces than where tests run."""

CHECKS = 20


def default_runs() -> Iterator[tuple[int, list[TimedSample]]]:
    """Yield interval and samples of each collector that runs by default, as this host has them."""
    catalog = Catalog()
    for name in catalog.names:
        kind = catalog.load(name)
        if not catalog.is_on_by_default(name) or not runs_here(kind.about):
            continue
        collector, taken = kind(kind.settings_type()), None
        for _ in range(2):  # rates are between two runs
            try:
                taken = Intake(name).take(collector.collect(), at_unix=time.time())
            except CollectorError:
                continue
        if taken and taken.samples:
            yield int(kind.about.interval.total_seconds()), list(taken.samples)


def as_of(samples: list[TimedSample], at_s: int, chance: random.Random) -> list[TimedSample]:
    """Return the samples of a run at another time: no value repeats."""
    at_ms = (START_S + at_s) * 1000
    return [
        TimedSample(
            each.series.replace("}", f',host="{host}"}}'),
            at_ms,
            each.value * (1 + chance.random()),
            each.unit,
        )
        for host in range(HOSTS)
        for each in samples
    ]


def checks_at(at_s: int) -> list[CheckResult]:
    return [
        CheckResult(f"check-{number:026}", CheckStatus.PASS, "connected in 3 ms", 3, (START_S + at_s) * 1000)
        for number in range(CHECKS)
    ]


def test_a_day_offline_fits_and_comes_home_whole(tmp_path: Path) -> None:
    """Twice this host's default collectors, and twenty checks a minute: nothing dropped, 64 MiB not reached."""
    now_s, put = 0, 0
    max_bytes = DEFAULTS["outbox.max_bytes"]
    assert isinstance(max_bytes, int)
    outbox = Outbox(
        open_file(tmp_path).connection,
        codec=CODEC,
        limits=Limits(max_bytes - WAL_BYTES, 7 * DAY_S * 1000),
        new_id=lambda: os.urandom(16),
        monotonic=lambda: float(now_s),
    )
    chance, runs = random.Random(1), list(default_runs())
    due = [(interval_s, number) for number, (interval_s, _) in enumerate(runs)] + [(60, -1)]
    heapq.heapify(due)

    while due[0][0] <= DAY_S:
        now_s, number = heapq.heappop(due)
        if number < 0:
            results = [entry_of_result(result, CODEC, 0) for result in checks_at(now_s)]
            outbox.put(results, durable=True)
            heapq.heappush(due, (now_s + 60, number))
            continue
        samples = as_of(runs[number][1], now_s, chance)
        put += len(samples)
        outbox.put(entries_of_samples(samples, CODEC), durable=False)
        heapq.heappush(due, (now_s + runs[number][0], number))

    figures = outbox.figures()
    on_disk = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert (put, CHECKS * 1440, ()) == (figures.samples, figures.results, figures.counts)
    assert on_disk <= max_bytes
    assert (put, CHECKS * 1440) == drain(outbox)
    outbox.close()


def drain(outbox: Outbox) -> tuple[int, int]:
    """Bring everything home; return how many samples and results came."""
    samples = results = 0
    while batch := outbox.next_batch(Room(128 * 1024, MIB), START_S * 1000, with_samples=True):
        body = pb.BatchBody.FromString(batch.payload)
        samples, results = samples + len(body.samples), results + len(body.results)
        outbox.stored(
            BatchAck(batch.outbox_id, batch.seq, digest_of(batch.payload), Verdict.STORED), START_S * 1000
        )
    return samples, results
