"""A store, the samples that were given to it, and a plain computation of what their buckets must be."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from fractions import Fraction
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.values import new_agent
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.fleet.delivery import Delivery
from ct_ops_server.fleet.items import Sample
from ct_ops_server.fleet.model import StreamOpening
from ct_ops_server.fleet.resolutions import ROLLED, WIDTH_MS, Keeping, Resolution, start_of
from ct_ops_server.store.horizons import read_now
from ct_ops_server.store.opening import Store
from ct_ops_server.store.retention import Pieces, Retention
from ct_ops_server.store.rolling import Rolling
from ct_ops_server.store.rollup_tables import TABLE_OF
from ct_ops_server.store.sample_tables import series
from ct_ops_server.store.upkeep import StepSize, Upkeep

KEEPING = Keeping(timedelta(days=1), timedelta(days=5), timedelta(days=20), timedelta(days=400))
FOR_EVER = 2**62


class Bucket(NamedTuple):
    """As the database has it."""

    samples: int
    lowest: float
    highest: float
    mean: float


Key = tuple[str, str, int]
"""Agent, series, beginning."""
Buckets = dict[Key, Bucket]


class RollupWorld:
    """What tests of rolling up do to a store."""

    def __init__(self, store: Store, *, keeping: Keeping = KEEPING) -> None:
        self.store = store
        self.keeping = keeping
        self.given: dict[Key, float] = {}
        self.removed: defaultdict[str, int] = defaultdict(int)

    async def enrol(self, *agents: str) -> None:
        """Admit agents, and open a stream each."""
        await self.store.tokens.create_token("t", b"t", TokenTerms("t"), actor="ada")
        for agent in agents:
            await self.store.enrolment.admit(new_agent(agent, token_id="t"), leaf=None)
            await self.store.streams.open_stream(StreamOpening(agent, f"key-{agent}", "w", None))

    async def now_ms(self) -> int:
        """Return what the database's clock says."""
        async with self.store.database.reading() as connection:
            return await read_now(connection)

    async def deliver(self, agent: str, samples: Iterable[tuple[str, int, float]]) -> None:
        """Deliver samples: series, time, value. The first of one time counts."""
        items = [Sample(text, at_ms, value, "") for text, at_ms, value in samples]
        await self.store.deliveries.deliver(Delivery(agent, 1, tuple(enumerate(items))))
        for item in items:
            self.given.setdefault((agent, item.series, item.at_ms), item.value)

    def upkeep(self) -> Upkeep:
        """Return what a process that has just started would have."""
        return Upkeep(self.store.database, self.store.writer, rest=0)

    def rolling(self, upkeep: Upkeep, *, step: int = 3) -> Rolling:
        """Return who rolls up, a few series at a time."""
        return Rolling(upkeep, patience_ms=0, step=StepSize(step, least=1, most=step), most_late=10)

    async def roll_up(self) -> None:
        """Roll up everything, ready or not."""
        upkeep = self.upkeep()
        async with upkeep.alone():
            await self.rolling(upkeep).make_round(before_ms=FOR_EVER)

    async def retain(self, *, keeping: Keeping | None = None, series_keep: timedelta | None = None) -> None:
        """Make a pass of retention."""
        upkeep = self.upkeep()
        retention = Retention(
            upkeep,
            self.rolling(upkeep),
            keeping=keeping or self.keeping,
            series_keep=timedelta(days=90) if series_keep is None else series_keep,
            pieces=Pieces(series=4, rows=20),
            removed=self._count,
        )
        async with upkeep.alone():
            await retention.make_pass()

    async def write(self, statement: sa.Executable) -> None:
        """Run a statement, as no part of the server does."""

        async def run(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self.store.writer.run(run)

    async def count(self, table: sa.Table) -> int:
        """Return how many rows a table has."""
        async with self.store.database.reading() as connection:
            return await connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0

    async def buckets(self, resolution: Resolution) -> Buckets:
        """Return what is rolled up."""
        table = TABLE_OF[resolution]
        statement = sa.select(series.c.agent_id, series.c.text, table).join(
            table, table.c.series_id == series.c.id
        )
        async with self.store.database.reading() as connection:
            rows = (await connection.execute(statement)).all()
        return {
            (row.agent_id, row.text, row.ts_ms): Bucket(row.samples, row.lowest, row.highest, row.mean)
            for row in rows
        }

    def computed(self, resolution: Resolution) -> Buckets:
        """Return what all samples that were ever given amount to."""
        values: defaultdict[Key, list[float]] = defaultdict(list)
        for (agent, text, at_ms), value in self.given.items():
            values[agent, text, start_of(at_ms, WIDTH_MS[resolution])].append(value)
        return {key: bucket_of(each) for key, each in values.items()}

    async def assert_rolled_up(self) -> None:
        """Every bucket is what a plain computation says, and there is none besides."""
        for resolution in ROLLED:
            assert_same(self.computed(resolution), await self.buckets(resolution))

    def _count(self, table: str, rows: int) -> None:
        self.removed[table] += rows


def bucket_of(values: Iterable[float]) -> Bucket:
    """Compute a bucket plainly."""
    every = list(values)
    mean = float(sum(map(Fraction, every)) / len(every))
    return Bucket(len(every), min(every), max(every), mean)


def assert_same(expected: Buckets, actual: Buckets) -> None:
    """Counts and ends are exact; of means the last digits depend on the order of adding."""
    assert expected.keys() == actual.keys()
    for key, bucket in expected.items():
        assert bucket[:3] == actual[key][:3], key
        tolerance = max(1e-9 * max(abs(bucket.lowest), abs(bucket.highest)), 1e-200)
        assert math.isclose(bucket.mean, actual[key].mean, rel_tol=1e-9, abs_tol=tolerance), key
