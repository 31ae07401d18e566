"""What operators may call a series, and what they hear when it is not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ct_ops_server.fleet.delivery import Delivery
from ct_ops_server.fleet.items import Sample
from ct_ops_server.fleet.resolutions import KEEPING, Resolution
from ct_ops_server.fleet.samples import NoSuchSeriesError, SampleDesk
from fakes.memory_deliveries import MemoryDeliveries

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TEXTS = ('disk.used_bytes{mount="/"}', 'disk.used_bytes{mount="/srv"}', "cpu.used_percent", "load.one_minute")


@pytest.fixture
async def desk() -> SampleDesk:
    store = MemoryDeliveries()
    at_ms = int(NOW.timestamp() * 1000)
    items = tuple(enumerate(Sample(text, at_ms, 1.0, "") for text in TEXTS))
    await store.deliver(Delivery("a", 1, items))
    return SampleDesk(store)


async def asked(desk: SampleDesk, wanted: str) -> list[str]:
    hour = timedelta(hours=1)
    found = await desk.curves("a", "web-1", wanted, since=NOW - hour, until=NOW + hour)
    return [curve.text for curve in found.curves]


async def test_a_name_is_all_its_series_and_a_series_is_itself(desk: SampleDesk) -> None:
    """Labels are only needed to mean one of them."""
    assert list(TEXTS[:2]) == await asked(desk, "disk.used_bytes")
    assert [TEXTS[1]] == await asked(desk, TEXTS[1])


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("disk.usd_bytes", "did you mean disk.used_bytes"),
        ("cpu", "did you mean cpu.used_percent"),
        ("one_minute", "did you mean load.one_minute"),
        ("temperature.celsius", "see: ct-ops-server samples web-1"),
        ('disk.used_bytes{mount="/home"}', "but not with these labels"),
    ],
)
async def test_a_name_that_is_not_there_is_answered_with_what_is_like_it(
    desk: SampleDesk, wanted: str, sentence: str
) -> None:
    """A typo, a part of a name, other labels."""
    with pytest.raises(NoSuchSeriesError, match="web-1") as refusal:
        await asked(desk, wanted)

    assert sentence in str(refusal.value)


async def test_a_host_without_samples_is_said_to_have_none() -> None:
    """No name can be wrong there."""
    with pytest.raises(NoSuchSeriesError, match="web-1 has delivered no samples"):
        await asked(SampleDesk(MemoryDeliveries()), "cpu.used_percent")


async def test_times_the_wrong_way_round_are_refused(desk: SampleDesk) -> None:
    """An empty answer would look like missing data."""
    with pytest.raises(ValueError, match="--since is the earlier one"):
        await desk.curves("a", "web-1", "cpu.used_percent", since=NOW, until=NOW - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("ago", "resolution"),
    [
        (timedelta(hours=6), Resolution.RAW),
        (timedelta(hours=7), Resolution.MINUTE),
        (timedelta(days=30), Resolution.HOUR),
        (timedelta(days=179), Resolution.DAY),
        (timedelta(days=4000), Resolution.DAY),
    ],
)
def test_the_finest_resolution_that_answers_in_one_look_is_chosen(
    ago: timedelta, resolution: Resolution
) -> None:
    """The minutes that a command adds for clocks that are ahead change nothing."""
    assert resolution is KEEPING.best(NOW - ago, NOW + timedelta(minutes=5), NOW)


def test_what_is_no_longer_kept_is_answered_by_what_is() -> None:
    """An hour of last month is answered by the hour, not by minutes that are gone."""
    since = NOW - timedelta(days=30)

    assert Resolution.HOUR is KEEPING.best(since, since + timedelta(hours=1), NOW)
