"""What ``fleet.samples.SampleStore`` promises of what ``fleet.delivery.DeliveryStore`` was given."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta

import pytest

from contract.values import StoreUnderTest, enrol, open_stream
from ct_ops_server.fleet.delivery import BatchNumber, Delivered, Delivery
from ct_ops_server.fleet.items import Sample
from ct_ops_server.fleet.resolutions import Resolution
from ct_ops_server.fleet.samples import Bucket, Curve, Curves, Point, Series

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
ROOT, SRV = 'disk.used_bytes{mount="/"}', 'disk.used_bytes{mount="/srv"}'


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def sample(series: str, minute: float, value: float = 1.0, unit: str = "bytes") -> Sample:
    return Sample(series, int(at(minute).timestamp() * 1000), value, unit)


async def deliver(
    store: StoreUnderTest, *samples: Sample, agent_id: str = "a", outbox_id: bytes = bytes(16)
) -> Delivered:
    """Deliver samples as the next batch of an outbox."""
    position = await store.deliveries.position(agent_id, outbox_id)
    digest = hashlib.sha256(repr(samples).encode()).digest()[:16]
    number = BatchNumber(outbox_id, position.seq + 1, digest)
    return await store.deliveries.deliver(Delivery(agent_id, 1, tuple(enumerate(samples)), number=number))


async def curves(store: StoreUnderTest, *texts: str, limit: int = 100) -> Curves:
    return await store.samples.curves("a", texts, since=at(0), until=at(60), limit=limit)


async def test_samples_are_read_back_as_they_were_delivered(store: StoreUnderTest) -> None:
    """Values to their last bit, oldest first, series by their text."""
    await enrol(store, "a")
    await open_stream(store, "a")
    values = [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 2.0**53 + 2]
    await deliver(
        store, *(sample(ROOT, minute, value) for minute, value in enumerate(values)), sample(SRV, 1)
    )

    assert Curves(
        (
            Curve(ROOT, "bytes", tuple(Point(at(minute), value) for minute, value in enumerate(values))),
            Curve(SRV, "bytes", (Point(at(1), 1.0),)),
        ),
        is_cut=False,
    ) == await curves(store, SRV, ROOT)


async def test_a_sample_that_comes_again_is_no_second_one(store: StoreUnderTest) -> None:
    """Also in one batch, also with another value, also in a batch of another outbox: the first one stays."""
    await enrol(store, "a")
    await open_stream(store, "a")
    await deliver(store, sample(ROOT, 1, 1.0), sample(ROOT, 1, 2.0))
    told = await deliver(store, sample(ROOT, 1, 3.0), sample(ROOT, 2, 4.0), outbox_id=bytes([7]) * 16)

    assert () == told.refused
    assert (Curve(ROOT, "bytes", (Point(at(1), 1.0), Point(at(2), 4.0))),) == (
        await curves(store, ROOT)
    ).curves


async def test_a_late_sample_does_not_overwrite_the_latest(store: StoreUnderTest) -> None:
    """What was held back in an outage arrives after what is newer."""
    await enrol(store, "a")
    await open_stream(store, "a")
    await deliver(store, sample(ROOT, 30, 30.0))
    await deliver(store, sample(ROOT, 1, 1.0), sample(SRV, 2, 2.0))

    assert [
        Series(ROOT, "disk.used_bytes", "bytes", Point(at(30), 30.0)),
        Series(SRV, "disk.used_bytes", "bytes", Point(at(2), 2.0)),
    ] == await store.samples.series("a")


async def test_of_too_many_samples_the_newest_are_returned(store: StoreUnderTest) -> None:
    """Over all series asked for, and it is said that there were more."""
    await enrol(store, "a")
    await open_stream(store, "a")
    await deliver(store, *(sample(series, minute) for minute in range(10) for series in (ROOT, SRV)))
    found = await curves(store, ROOT, SRV, limit=4)

    assert found.is_cut
    assert [(at(8), at(9))] * 2 == [tuple(point.at for point in curve.points) for curve in found.curves]
    assert not (await curves(store, ROOT, SRV, limit=20)).is_cut


async def test_only_what_lies_between_the_times_is_returned(store: StoreUnderTest) -> None:
    """Both ends included; a series with nothing in between is there without points."""
    await enrol(store, "a")
    await open_stream(store, "a")
    await deliver(store, *(sample(ROOT, minute) for minute in range(5)), sample(SRV, 50))
    found = await store.samples.curves("a", [ROOT, SRV], since=at(1), until=at(3), limit=100)

    assert [(at(1), at(2), at(3)), ()] == [tuple(point.at for point in each.points) for each in found.curves]


async def test_a_unit_is_the_one_that_was_said_last(store: StoreUnderTest) -> None:
    """A new version of an agent may put it right."""
    await enrol(store, "a")
    await open_stream(store, "a")
    await deliver(store, sample(ROOT, 1, unit="byte"))
    await deliver(store, sample(ROOT, 2))

    assert ["bytes"] == [each.unit for each in await store.samples.series("a")]


async def test_agents_have_series_of_their_own(store: StoreUnderTest) -> None:
    """The same text on two hosts, delivered in any order, is never mixed up."""
    names = [f"a{number}" for number in range(5)]
    await enrol(store, *names)
    order = random.Random(7)
    for name in names:
        await open_stream(store, name)
    for minute in range(3):
        for name in order.sample(names, len(names)):
            await deliver(store, sample(ROOT, minute, float(name[1:])), agent_id=name)

    for name in names:
        found = await store.samples.curves(name, [ROOT], since=at(0), until=at(60), limit=100)
        assert {float(name[1:])} == {point.value for point in found.curves[0].points}
        assert 3 == len(found.curves[0].points)


async def test_an_agent_without_samples_has_no_series(store: StoreUnderTest) -> None:
    """Nothing is returned, for series as for curves."""
    await enrol(store, "a")

    assert [] == list(await store.samples.series("a"))
    assert Curves((), is_cut=False) == await curves(store, ROOT)


@pytest.mark.parametrize("resolution", [Resolution.MINUTE, Resolution.HOUR, Resolution.DAY])
async def test_a_coarser_resolution_is_answered_at_once(
    store: StoreUnderTest, resolution: Resolution
) -> None:
    """Also before anything is rolled up: the reader's buckets are made from what is there."""
    await enrol(store, "a")
    await open_stream(store, "a")
    await deliver(store, sample(ROOT, 1, 1.0), sample(ROOT, 1.5, 4.0), sample(ROOT, 1.75, 4.0))
    found = await store.samples.curves(
        "a", [ROOT], since=at(1.1), until=at(60), limit=9, resolution=resolution
    )
    ((point,),) = [curve.points for curve in found.curves]

    assert resolution is found.resolution
    assert (Bucket(3, 1.0, 4.0), 3.0) == (point.bucket, point.value)
