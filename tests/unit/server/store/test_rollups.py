"""Buckets hold what a plain computation over all samples says, whatever the history of their arrival."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from ct_ops_server.fleet.resolutions import DAY_MS, HOUR_MS, MINUTE_MS, ROLLED, Resolution, start_of
from ct_ops_server.store.grouping import WriterLimits
from ct_ops_server.store.opening import open_store
from ct_ops_server.store.rollup_tables import late_samples, minutes, rollups_due
from ct_ops_server.store.rollups import find_due, roll_up
from ct_ops_server.store.sample_tables import samples
from ct_ops_server.store.values import from_ms
from unit.server.store.rollup_world import KEEPING, Bucket, RollupWorld

AGENTS = ("a", "b")
TEXTS = ("cpu.used", 'disk.used{mount="/"}', 'disk.used{mount="/srv"}')


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[RollupWorld]:
    async with open_store(database_url, limits=WriterLimits(gather_s=0)) as store:
        opened = RollupWorld(store)
        await opened.enrol(*AGENTS)
        yield opened


def some_samples(chance: random.Random, begin_ms: int, span_ms: int) -> Iterator[tuple[str, int, float]]:
    """Yield samples of a host, now and then the same time again; values that add up to nothing exact."""
    for _ in range(chance.randrange(1, 30)):
        at_ms = begin_ms + chance.randrange(span_ms // 10_000) * 10_000
        yield chance.choice(TEXTS), at_ms, chance.choice((0.1, -7.25, 3e15, chance.uniform(-100, 100)))


async def some_steps(world: RollupWorld, chance: random.Random) -> None:
    """Roll up a little and stop in the middle, as a process does that is killed between two steps."""
    upkeep = world.upkeep()
    async with upkeep.alone():
        find = partial(find_due, patience_ms=0, before_ms=2**62, limit=5)
        for due in await upkeep.run(find):
            for _ in range(chance.randrange(3)):
                await upkeep.run(partial(roll_up, due=due, most_series=1))


@pytest.mark.parametrize("seed", range(2))
async def test_after_any_history_buckets_are_what_all_samples_amount_to(
    world: RollupWorld, seed: int
) -> None:
    """Batches early, late and again, steps cut off in the middle, and the end of raw samples in between."""
    chance = random.Random(seed)
    today = start_of(await world.now_ms(), DAY_MS)
    begin = today - 2 * DAY_MS
    for _ in range(6):
        batch = list(some_samples(chance, begin + chance.randrange(4) * 12 * HOUR_MS, 2 * HOUR_MS))
        agent = chance.choice(AGENTS)
        await world.deliver(agent, batch)
        if chance.random() < 0.3:
            await world.deliver(agent, batch)
        if chance.random() < 0.6:
            await some_steps(world, chance)
    await world.roll_up()
    await world.assert_rolled_up()
    await world.retain()
    for number in range(2):
        late = [(text, at + 5_000 + number, value) for text, at, value in some_samples(chance, begin, DAY_MS)]
        await world.deliver("a", {(text, at): (text, at, value) for text, at, value in late}.values())
    await world.roll_up()

    assert 0 == await world.count(late_samples) == await world.count(rollups_due)
    await world.assert_rolled_up()


async def test_what_was_held_back_for_a_day_reaches_its_buckets(world: RollupWorld) -> None:
    """Also those that had been rolled up before it came."""
    hour = start_of(await world.now_ms(), HOUR_MS) - 30 * HOUR_MS
    await world.deliver("a", [(TEXTS[0], hour + 1_000, 1.0)])
    await world.roll_up()
    await world.deliver("a", [(TEXTS[0], hour + 2_000, 4.0), (TEXTS[0], hour + MINUTE_MS, 4.0)])
    await world.roll_up()

    assert Bucket(2, 1.0, 4.0, 2.5) == (await world.buckets(Resolution.MINUTE))["a", TEXTS[0], hour]
    assert Bucket(3, 1.0, 4.0, 3.0) == (await world.buckets(Resolution.HOUR))["a", TEXTS[0], hour]


async def test_values_at_the_end_of_the_range_stop_nothing(world: RollupWorld) -> None:
    """Their sum is none, and one host's absurd values are no reason to stop everybody's roll-up."""
    hour = start_of(await world.now_ms(), HOUR_MS) - 2 * HOUR_MS
    largest, least = 1.7976931348623157e308, 5e-324
    values = [largest, largest, largest, -largest, least, -0.0, 1e-300]
    for text, some in zip(TEXTS, (values[:3], values, values[4:]), strict=True):
        await world.deliver("a", [(text, hour + number * 7_000, value) for number, value in enumerate(some)])
    await world.roll_up()
    await world.retain()
    await world.deliver("a", [(text, hour - 3 * DAY_MS + at, largest) for at in (1, 2) for text in TEXTS])
    await world.roll_up()
    await world.assert_rolled_up()


async def test_an_hour_is_left_alone_until_it_is_over(world: RollupWorld) -> None:
    """Rolling it up once is cheaper than every time that a sample comes."""
    now = await world.now_ms()
    await world.deliver("a", [(TEXTS[0], now + 2 * HOUR_MS, 1.0), (TEXTS[0], now - 2 * HOUR_MS, 1.0)])
    upkeep = world.upkeep()
    async with upkeep.alone():
        await world.rolling(upkeep).make_round()

    assert 1 == await world.count(minutes) == await world.count(rollups_due)


async def test_a_sample_that_comes_while_its_hour_is_rolled_up_leaves_a_mark(world: RollupWorld) -> None:
    """The series of an hour are rolled up in steps; one that was done and got something new is done again."""
    hour = start_of(await world.now_ms(), HOUR_MS) - 2 * HOUR_MS
    await world.deliver("a", [(text, hour, 1.0) for text in TEXTS])
    upkeep = world.upkeep()
    async with upkeep.alone():
        await upkeep.run(partial(roll_up, due=("a", hour), most_series=2))
    await world.deliver("a", [(TEXTS[0], hour + 1, 3.0)])
    await world.roll_up()

    await world.assert_rolled_up()


async def test_a_late_sample_whose_buckets_are_gone_makes_none_of_a_finer_resolution(
    world: RollupWorld,
) -> None:
    """It is in the day's, which is kept; a minute of it alone would lie."""
    now = await world.now_ms()
    await world.retain()
    await world.deliver("a", [(TEXTS[0], now - 10 * DAY_MS, 1.0)])
    await world.roll_up()
    found = [len(await world.buckets(each)) for each in (Resolution.MINUTE, Resolution.HOUR, Resolution.DAY)]

    assert [0, 1, 1] == found


async def test_the_horizon_waits_for_what_is_not_rolled_up(world: RollupWorld) -> None:
    """Whatever is due before it is rolled up by the pass that moves it, ready or not."""
    now = await world.now_ms()
    await world.deliver(
        "a", [(text, now - 3 * DAY_MS + number, 1.0) for text in TEXTS for number in range(9)]
    )
    await world.write(rollups_due.update().values(marked_at=now + DAY_MS))
    await world.retain()

    assert 0 == await world.count(samples)
    await world.assert_rolled_up()


async def test_a_history_from_before_roll_ups_is_rolled_up(world: RollupWorld) -> None:
    """Marks are all that a migration makes of it: they lead to every bucket."""
    now = await world.now_ms()
    await world.deliver("a", [(text, now - each * 5 * HOUR_MS, 1.0) for text in TEXTS for each in range(5)])
    await world.write(sa.delete(rollups_due))
    await world.write(
        rollups_due.insert().from_select(
            ["agent_id", "hour_ms", "marked_at", "done_series"],
            sa.select(
                sa.literal("a"),
                samples.c.ts_ms - samples.c.ts_ms % sa.literal_column(str(HOUR_MS)),
                sa.literal(0),
                sa.literal(0),
            ).distinct(),
        )
    )
    await world.retain(keeping=KEEPING)
    await world.roll_up()

    await world.assert_rolled_up()


@pytest.mark.parametrize("resolution", ROLLED)
async def test_an_answer_is_the_same_before_rolling_up_and_after(
    world: RollupWorld, resolution: Resolution
) -> None:
    """And in the middle, when an hour of a day is due again."""
    day = start_of(await world.now_ms(), DAY_MS) - DAY_MS

    async def read() -> object:
        since, until = from_ms(day), from_ms(day + 2 * DAY_MS)
        found = await world.store.samples.curves(
            "a", TEXTS, since=since, until=until, limit=99, resolution=resolution
        )
        return [
            (curve.text, [(point.at, point.bucket, round(point.value, 9)) for point in curve.points])
            for curve in found.curves
        ]

    await world.deliver(
        "a", [(text, day + each * 50 * MINUTE_MS, each) for text in TEXTS for each in range(8)]
    )
    before = await read()
    await world.roll_up()
    assert before == await read()
    await world.deliver("a", [(TEXTS[0], day + 60_000, 7.0)])
    again = await read()
    await world.roll_up()

    assert again == await read() != before


def test_what_is_kept_rolled_up_is_kept_at_least_as_long_as_what_it_is_made_of() -> None:
    """A bucket of a day is made again from its hours, as long as there are raw samples."""
    with pytest.raises(ValueError, match="not be kept shorter"):
        type(KEEPING)(raw=timedelta(days=3), minute=timedelta(days=2))
