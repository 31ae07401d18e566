"""What rolling up costs, and how long a look at 30 days takes.

    .venv/bin/python bench/rollups.py

On SQLite and on PostgreSQL, as the server does it but without rests between the steps: samples of some hosts are
delivered, rolled up, and read back by the hour.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import timedelta

from samples import START_MS, TEXTS, Load, batch, batches, drain, enrol
from store_writer import machine, postgres_version

from ct_ops_server.fleet.resolutions import Resolution
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.rolling import Rolling
from ct_ops_server.store.upkeep import Upkeep
from ct_ops_server.store.values import from_ms
from databases import fresh_database, postgres_server

LOAD = Load("rolled up", 10, 28, 2)
FOR_EVER = 2**62


async def main() -> None:
    """Measure both databases."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        await measure("SQLite", f"sqlite:///{folder}/ct-ops.db")
    with postgres_server() as server:
        print(await postgres_version(server.url))
        await measure("PostgreSQL", await fresh_database(server.url))


async def measure(name: str, url: str) -> None:
    """Print what one database does."""
    async with open_store(url) as store:
        agents = await enrol(store, LOAD.agents)
        await asyncio.gather(*(drain(store, [batch(agent, 1, 0, 1)]) for agent in agents))
        await asyncio.gather(*(drain(store, batches(agent, LOAD)) for agent in agents))
        rows = LOAD.agents * (1 + LOAD.batches * LOAD.minutes_in_a_batch) * len(TEXTS)
        steps: list[float] = []
        started = time.perf_counter()
        upkeep = Upkeep(store.database, store.writer, rest=0)
        async with upkeep.alone():
            await Rolling(upkeep, stepped=steps.append).make_round(before_ms=FOR_EVER)
        seconds = time.perf_counter() - started
        look = await look_at_a_month(store, agents[0])
    print(
        f"{name:<10}  {rows:,} samples rolled up in {seconds:.1f} s, {rows / seconds:>8,.0f} samples/s"
        f"  longest step {max(steps) * 1e3:.0f} ms  30 d of {len(TEXTS)} series by the hour {look * 1e3:.0f} ms"
    )


async def look_at_a_month(store: Store, agent_id: str) -> float:
    """Return how long it takes."""
    until = from_ms(START_MS) + timedelta(days=1)
    started = time.perf_counter()
    await store.samples.curves(
        agent_id,
        TEXTS,
        since=until - timedelta(days=30),
        until=until,
        limit=10_000,
        resolution=Resolution.HOUR,
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    asyncio.run(main())
