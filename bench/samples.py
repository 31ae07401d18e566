"""How many samples the store writes, as agents deliver them.

    .venv/bin/python bench/samples.py

On SQLite (a file in a temporary folder) and on PostgreSQL (a server started for it, over its UNIX socket), both
durable (fsync), through the group writer as the server does it: position, samples, collectors, one commit.

* *a minute each*: agents that deliver a minute's samples in a batch, all at once, over and over: what a fleet
  does, but without a pause between the minutes;
* *coming home*: agents that drain what they kept in an outage, in batches as full as they may be.

CPU is this process's (Python, SQLAlchemy and the driver; for SQLite the database too, not PostgreSQL's own).
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from store_writer import machine, postgres_version

from contract.values import new_agent
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.fleet.delivery import BatchNumber, Delivery, Verdict
from ct_ops_server.fleet.items import Sample
from ct_ops_server.fleet.model import StreamOpening
from ct_ops_server.store.opening import Store, open_store
from databases import fresh_database, postgres_server

SERIES = 150
"""Of one agent, in one minute: the default collectors of a host with some disks and interfaces."""
START_MS = 1_790_000_000_000
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Load:
    """One measurement."""

    name: str
    agents: int
    minutes_in_a_batch: int
    batches: int


LOADS = (Load("a minute each", 400, 1, 6), Load("coming home", 20, 28, 6))
TEXTS = [f'disk.used_bytes{{mount="/srv/data-{number:03}"}}' for number in range(SERIES)]


async def main() -> None:
    """Measure both databases."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        await measure("SQLite", [f"sqlite:///{folder}/{number}/ct-ops.db" for number in range(len(LOADS))])
    with postgres_server() as server:
        print(await postgres_version(server.url))
        await measure("PostgreSQL", [await fresh_database(server.url) for _ in LOADS])


async def measure(name: str, urls: Sequence[str]) -> None:
    """Print what one database does; every measurement gets an empty one."""
    for load, url in zip(LOADS, urls, strict=True):
        rows, seconds, cpu, slowest = await deliver(url, load)
        print(
            f"{name:<10}  {load.name:<14} {load.agents:>4} agents, {rows // load.agents // load.batches:>5} samples a batch"
            f"  {rows / seconds:>8,.0f} samples/s  {cpu / rows * 1e6:5.1f} us CPU/sample"
            f"  slowest batch {slowest * 1e3:6.0f} ms"
        )


async def deliver(url: str, load: Load) -> tuple[int, float, float, float]:
    """Return samples, seconds, CPU seconds, and how long the slowest batch took."""
    async with open_store(url) as store:
        names = await enrol(store, load.agents)
        # The first batch makes the series, once in an agent's life: it does not count.
        await asyncio.gather(*(drain(store, [batch(name, 1, 0, 1)]) for name in names))
        cpu, start = time.process_time(), time.perf_counter()
        slowest = await asyncio.gather(*(drain(store, batches(name, load)) for name in names))
        elapsed, spent = time.perf_counter() - start, time.process_time() - cpu
    rows = load.agents * load.batches * load.minutes_in_a_batch * SERIES
    return rows, elapsed, spent, max(slowest)


def batches(agent_id: str, load: Load) -> Iterator[Delivery]:
    """Yield an agent's batches after the first."""
    for number in range(load.batches):
        yield batch(agent_id, number + 2, 1 + number * load.minutes_in_a_batch, load.minutes_in_a_batch)


def batch(agent_id: str, seq: int, minute: int, minutes: int) -> Delivery:
    """Return a batch with the samples of some minutes."""
    items = [
        Sample(text, START_MS + (minute + offset) * MINUTE_MS, float(minute * offset), "bytes")
        for offset in range(minutes)
        for text in TEXTS
    ]
    digest = hashlib.sha256(f"{agent_id} {seq}".encode()).digest()[:16]
    return Delivery(agent_id, 1, tuple(enumerate(items)), number=BatchNumber(bytes(16), seq, digest))


async def drain(store: Store, sent: Iterator[Delivery] | Sequence[Delivery]) -> float:
    """Deliver batches one after the other; return how long the slowest took."""
    slowest = 0.0
    for each in sent:
        begun = time.perf_counter()
        delivered = await store.deliveries.deliver(each)
        slowest = max(slowest, time.perf_counter() - begun)
        if delivered.verdict is not Verdict.STORED or delivered.refused:
            raise AssertionError(delivered)
    return slowest


async def enrol(store: Store, agents: int) -> list[str]:
    """Admit agents and open a stream each; return their ids."""
    names = [f"{number:08x}-bench-agent" for number in range(agents)]
    await store.tokens.create_token("bench", b"bench", TokenTerms("bench"), actor="bench")
    await asyncio.gather(
        *(store.enrolment.admit(new_agent(name, token_id="bench"), leaf=None) for name in names)
    )
    await asyncio.gather(
        *(store.streams.open_stream(StreamOpening(name, f"key-{name}", "bench", None)) for name in names)
    )
    return names


if __name__ == "__main__":
    asyncio.run(main())
