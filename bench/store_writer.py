"""How many heartbeats the store writes, and what a steady load costs.

    .venv/bin/python bench/store_writer.py

Two measurements on SQLite (a file in a temporary folder) and on PostgreSQL (a server started for it,
over its UNIX socket), both durable (fsync):

* *full groups*: submitters that always have the next frame ready, groups of 500, and for comparison of one;
* *steady load*: 1,000 agents at 2.5 frames a second each. Latency is from submit to commit, CPU is this
  process's (Python, SQLAlchemy and the driver; for SQLite the database too, not PostgreSQL's own).
"""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import asyncpg
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from contract.values import FACTS, VITALS, beat, new_agent
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.fleet.model import StreamOpened, StreamOpening
from ct_ops_server.store.grouping import WriterLimits
from ct_ops_server.store.opening import Store, open_store
from databases import fresh_database, postgres_server

AGENTS = 1_000
FULL_S = 6.0
STEADY_S = 8.0
FRAMES_PER_AGENT_S = 2.5
COMMIT_SHARES = (1.0, 0.5, 0.2, 0.1)


@dataclass
class Watcher:
    """Remembers the groups."""

    sizes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def group_committed(self, writes: int, seconds: float) -> None:
        """Remember a group."""
        self.sizes.append(writes)
        self.seconds.append(seconds)

    def write_refused(self, kind: str) -> None:
        """Stop: nothing here can be refused."""
        raise AssertionError(kind)

    def group_taken(self, waited_s: float) -> None:
        """Ignore it."""

    def database_lost(self) -> None:
        """Ignore it."""

    def writes_unavailable(self, writes: int) -> None:
        """Stop: a figure with failures in it is none."""
        raise AssertionError(writes)


async def main() -> None:
    """Measure both databases."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        await measure("SQLite", [f"sqlite:///{folder}/{n}/ct-ops.db" for n in range(9)])
    with postgres_server() as server:
        print(await postgres_version(server.url))
        await measure("PostgreSQL", [await fresh_database(server.url) for _ in range(9)])


async def measure(name: str, urls: Sequence[str]) -> None:
    """Print what one database does; every measurement gets an empty one."""
    fresh = iter(urls)
    for group, with_facts in ((1, False), (500, False), (500, True)):
        rows_s, cpu_us, commit_ms = await full_groups(next(fresh), group, with_facts=with_facts)
        what = "vitals and lists" if with_facts else "vitals"
        print(
            f"{name:<10}  groups of {group:>3}, {what:<16}  {rows_s:>7,.0f} rows/s  {cpu_us:5.1f} us CPU/row  {commit_ms:5.1f} ms/group"
        )
    for share in COMMIT_SHARES:
        print(f"{name:<10}  steady load, commit share {share:3.1f}  {await steady_load(next(fresh), share)}")


async def full_groups(url: str, group: int, *, with_facts: bool) -> tuple[float, float, float]:
    """Return rows a second, CPU microseconds a row and milliseconds a group."""
    watcher = Watcher()
    limits = WriterLimits(group=group, commit_share=1.0)
    async with open_store(url, limits=limits, observer=watcher) as store:
        generations = await enrol(store)
        watcher.sizes.clear()
        watcher.seconds.clear()
        cpu, start = time.process_time(), time.perf_counter()
        until = start + FULL_S

        async def submit(agent_id: str) -> None:
            number = 0
            while time.perf_counter() < until:
                number += 1
                vitals = replace(VITALS, uptime_s=number)
                facts = FACTS if with_facts else None
                await store.streams.record_heartbeat(
                    beat(agent_id, generations[agent_id], vitals=vitals, facts=facts)
                )

        await asyncio.gather(*(submit(agent_id) for agent_id in generations))
        elapsed, spent = time.perf_counter() - start, time.process_time() - cpu
    rows = sum(watcher.sizes)
    return rows / elapsed, spent / rows * 1e6, statistics.median(watcher.seconds) * 1e3


async def steady_load(url: str, commit_share: float) -> str:
    """Return a line about a load that does not fill the writer."""
    watcher, latencies = Watcher(), list[float]()
    async with open_store(url, limits=WriterLimits(commit_share=commit_share), observer=watcher) as store:
        generations = await enrol(store)
        watcher.sizes.clear()
        cpu, start = time.process_time(), time.perf_counter()

        async def beat_steadily(agent_id: str, offset_s: float) -> None:
            due = start + offset_s
            while due < start + STEADY_S:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                sent = time.perf_counter()
                await store.streams.record_heartbeat(beat(agent_id, generations[agent_id]))
                latencies.append(time.perf_counter() - sent)
                due += 1 / FRAMES_PER_AGENT_S

        spread = 1 / FRAMES_PER_AGENT_S / AGENTS
        await asyncio.gather(*(beat_steadily(name, n * spread) for n, name in enumerate(generations)))
        elapsed, spent = time.perf_counter() - start, time.process_time() - cpu
    latencies.sort()
    return (
        f"{len(latencies) / elapsed:6,.0f}/s  p50 {latencies[len(latencies) // 2] * 1e3:5.1f} ms  "
        f"p99 {latencies[len(latencies) * 99 // 100] * 1e3:5.1f} ms  CPU {spent / elapsed * 100:3.0f} %  "
        f"{statistics.mean(watcher.sizes):4.0f} writes a group"
    )


async def enrol(store: Store) -> dict[str, int]:
    """Admit the agents and open a stream each; return the generations."""
    names = [f"{number:08x}-bench-agent" for number in range(AGENTS)]
    await store.tokens.create_token("bench", b"bench", TokenTerms("bench"), actor="bench")
    await asyncio.gather(
        *(store.enrolment.admit(new_agent(name, token_id="bench"), leaf=None) for name in names)
    )
    opened = await asyncio.gather(
        *(store.streams.open_stream(StreamOpening(name, f"key-{name}", "bench", None)) for name in names)
    )
    return {
        name: stream.generation
        for name, stream in zip(names, opened, strict=True)
        if isinstance(stream, StreamOpened)
    }


def machine() -> str:
    """Return what was measured on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("sqlalchemy", "aiosqlite", "asyncpg", "msgspec")
    )
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} cores {models[0] if models else platform.processor()}, load {load}\n"
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {versions}"
    )


async def postgres_version(url: str) -> str:
    """Return the server's version."""
    connection = await asyncpg.connect(url)
    try:
        return "PostgreSQL " + str(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
