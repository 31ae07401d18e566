"""What the audit log costs: an admission with and without its entry, and workers that append to one chain at once.

    .venv/bin/python bench/audit.py [--seconds 6]

On PostgreSQL (a server started for it, over its UNIX socket, fsync on), in processes that are the store alone, without TLS and gRPC:

* *one admission*: groups of 300 through the writer, with the entry and with what writes it taken out, turn by turn;
  CPU of the process and of PostgreSQL;
* *one chain*: 1, 2 and 4 processes that each admit hosts, with a token of their own, as fast as they can, and at a pace of 300 a
  second together. The lock is how long ``SELECT … FOR UPDATE`` of the head's row takes, once a group: the last statement but two.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import psutil
import sqlalchemy as sa
from store_writer import Watcher, machine, postgres_version

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from contract.values import new_agent
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.store import audit
from ct_ops_server.store.grouping import WriterLimits
from ct_ops_server.store.opening import open_store
from databases import fresh_database, postgres_server

GROUP = 300
ROUNDS = 20
SUBMITTERS = 300
PACED_PER_S = 300
WORKERS = (1, 2, 4)


@click.command()
@click.option("--seconds", default=6.0, show_default=True, help="How long each measurement of workers takes.")
@click.option("--worker", "url", hidden=True)
@click.option("--per-second", default=0.0, hidden=True)
def bench(*, seconds: float, url: str | None, per_second: float) -> None:
    """Measure what the audit log costs."""
    if url is not None:
        click.echo(json.dumps(asyncio.run(append_from_one(url, seconds, per_second))))
        return
    click.echo(machine())
    with postgres_server() as server:
        click.echo(asyncio.run(postgres_version(server.url)))
        asyncio.run(one_admission(server.url, server.pid))
        for pace in (0.0, PACED_PER_S):
            for workers in WORKERS:
                one_chain(asyncio.run(fresh_database(server.url)), workers, seconds, pace)


async def one_admission(server_url: str, postgres: int) -> None:
    """Print what an admission costs with its entry and without, in turns: a machine that is shared has moods."""
    ours: dict[bool, list[float]] = {True: [], False: []}
    database: dict[bool, list[float]] = {True: [], False: []}
    limits = WriterLimits(group=GROUP, commit_share=1.0)
    async with open_store(await fresh_database(server_url), limits=limits) as store:
        await store.tokens.create_token("bench", b"bench", TokenTerms("bench"), actor="bench")
        for number in range(ROUNDS * 2):
            recorded = number % 2 == 0
            names = [f"{number:04d}-{n:04d}" for n in range(GROUP)]
            cpu, theirs = time.process_time(), tree_cpu_s(postgres)
            with nothing_written(unless=recorded):
                await asyncio.gather(
                    *(store.enrolment.admit(new_agent(name, token_id="bench"), leaf=None) for name in names)
                )
            ours[recorded].append((time.process_time() - cpu) / GROUP * 1e3)
            database[recorded].append((tree_cpu_s(postgres) - theirs) / GROUP * 1e3)
    # The server's by the median, for the first round prepares statements. PostgreSQL's by the mean: it is told in hundredths of
    # a second, of which a round has few.
    for name, figures, typical in (
        ("server", ours, statistics.median),
        ("PostgreSQL", database, statistics.mean),
    ):
        having, without = typical(figures[True]), typical(figures[False])
        click.echo(f"one admission, CPU of {name}: {having:.3f} ms with its entry, {without:.3f} ms without")


def nothing_written(*, unless: bool) -> AbstractContextManager[object]:
    """Take out what writes entries."""

    async def nothing(*_args: object) -> None:
        pass

    return nullcontext() if unless else patch.object(audit, "_write", nothing)


def one_chain(url: str, workers: int, seconds: float, per_second: float) -> None:
    """Print what so many processes do that append to one chain."""
    options = ("--worker", url, "--seconds", str(seconds), "--per-second", str(per_second / workers))
    asyncio.run(make(url))
    processes = [
        subprocess.Popen([sys.executable, __file__, *options], stdout=subprocess.PIPE) for _ in range(workers)
    ]
    found: list[dict[str, Any]] = [json.loads(process.communicate()[0]) for process in processes]
    waits = sorted(wait for each in found for wait in each["waits_ms"])
    took = sorted(each for one in found for each in one["took_ms"])
    entries_s = sum(each["entries"] / each["seconds"] for each in found)
    groups_s = len(waits) / seconds
    pace = f"paced at {per_second:.0f}/s" if per_second else "as fast as they can"
    click.echo(
        f"{workers} process(es), {pace}: {entries_s:,.0f} admissions/s in {groups_s:.0f} groups/s; head lock p50 {at(waits, 0.5):.1f} ms, "
        f"p99 {at(waits, 0.99):.1f} ms; admission durable p50 {at(took, 0.5):.0f} ms, p99 {at(took, 0.99):.0f} ms; "
        f"CPU {sum(each['cpu_s'] for each in found) / sum(each['entries'] for each in found) * 1e3:.3f} ms an admission"
    )


async def make(url: str) -> None:
    """Make the tables, before several processes want them."""
    async with open_store(url):
        pass


async def append_from_one(url: str, seconds: float, per_second: float) -> dict[str, Any]:
    """Append as one process; return its figures."""
    waits, took = list[float](), list[float]()
    # As fast as they can: nobody waits for company, or for a share of the time that commits may take.
    limits = WriterLimits() if per_second else WriterLimits(commit_share=1.0)
    async with open_store(url, limits=limits, observer=Watcher()) as store:
        watch_the_lock(waits)
        token, numbers = f"bench-{os.getpid()}", count()
        await store.tokens.create_token(token, token.encode(), TokenTerms("bench"), actor="bench")
        cpu, start = cpu_s(), time.perf_counter()

        async def submit(number: int) -> None:
            due = start + (number / per_second if per_second else 0.0)
            while due < start + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                began = time.perf_counter()
                host = new_agent(f"{os.getpid()}-{next(numbers)}", token_id=token)
                await store.enrolment.admit(host, leaf=None)
                took.append((time.perf_counter() - began) * 1e3)
                due = due + SUBMITTERS / per_second if per_second else time.perf_counter()

        await asyncio.gather(*map(submit, range(SUBMITTERS)))
        elapsed, spent = time.perf_counter() - start, cpu_s() - cpu
    return {
        "entries": len(took),
        "seconds": elapsed,
        "waits_ms": waits,
        "took_ms": took,
        "cpu_s": spent,
    }


def watch_the_lock(waits: list[float]) -> None:
    """Note how long each lock of the head takes, on every connection of this process."""

    def before(*call: Any) -> None:
        call[4].begun_s = time.perf_counter()

    def after(*call: Any) -> None:
        statement, context = call[2], call[4]
        if "FOR UPDATE" in statement and "audit_head" in statement:
            waits.append((time.perf_counter() - context.begun_s) * 1e3)

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    sa.event.listen(sa.Engine, "after_cursor_execute", after)


def at(figures: list[float], share: float) -> float:
    """Return a percentile of sorted figures."""
    return figures[min(len(figures) - 1, int(len(figures) * share))]


def cpu_s() -> float:
    """Return the CPU that this process has used, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def tree_cpu_s(pid: int) -> float:
    """Return the CPU of a process and its children, in seconds."""
    root = psutil.Process(pid)
    times = [each.cpu_times() for each in (root, *root.children(recursive=True))]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    bench()
