"""What one machine carries: every row of docs/capacity.md, from one command.

    python bench/capacity.py [--only ROW …] [--database sqlite|postgresql|both] [--scale 0.1] [--seconds 30] [--hold 10m]

Each row starts a server of its own on loopback (with a PostgreSQL of its own, fsync and synchronous_commit on), drives it with the
load tool in processes of its own, and stops everything. Server, load tool and database share the machine's cores. The rows are in
``capacity_rows``; the table at the end says what was measured, what is to be reached, and whether it was.

The whole takes about half an hour, twenty minutes of it the two rows that are held for ten minutes; ``--scale`` and ``--seconds``
make a trial of it, whose figures are none.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import psutil
from capacity_rows import ROWS, Measured, Size
from heartbeats import machine

from ct_ops_loadtest.plan import seconds

DATABASES = ("sqlite", "postgresql")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(ROWS)), help="Rows; all without it.")
@click.option("--database", type=click.Choice([*DATABASES, "both"]), default="both", show_default=True)
@click.option("--scale", default=1.0, show_default=True, help="Times as many agents: for a trial.")
@click.option("--seconds", "window_s", default=30.0, show_default=True, help="How long a row is measured.")
@click.option("--hold", default="10m", show_default=True, help="How long the last row is held.")
@click.option("--workers", type=int, help="Of the server on PostgreSQL [default: what the row asks for].")
@click.option("--processes", default=1, show_default=True, help="Of the load tool.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write everything to a file, too.")
def bench(
    *,
    only: tuple[str, ...],
    database: str,
    scale: float,
    window_s: float,
    hold: str,
    workers: int | None,
    processes: int,
    file: Path | None,
) -> None:
    """Measure what this machine carries."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: what was started is ended
    databases = DATABASES if database == "both" else (database,)
    done: list[Measured] = []
    click.echo(facts(databases))
    if scale != 1:
        click.echo(f"a trial with {scale:g} times the agents: its figures are none")
    for name in only or ROWS:
        for each in databases:
            row = ROWS[name]
            if each not in row.databases:
                continue
            most = workers if workers is not None else row.workers
            size = Size(
                scale,
                window_s,
                seconds(hold),
                workers_possible(most if each == "postgresql" else 1),
                processes,
            )
            click.echo(
                f"-- {name} on {each}, {size.workers} worker(s); load {os.getloadavg()[0]:.2f} at {time.strftime('%H:%M:%S')}"
            )
            for one in asyncio.run(row.measure(each, size)):
                measured = replace(one, database=size.label(each))
                click.echo(measured.line())
                done.append(measured)
            if file is not None:
                file.write_text(json.dumps([one.plain() for one in done], indent=2) + "\n")
    click.echo("\n" + table(done))


def facts(databases: tuple[str, ...]) -> str:
    """Return the machine's facts."""
    memory_gib = psutil.virtual_memory().total / 1024**3
    return "\n".join([f"{machine(each)} · {memory_gib:.0f} GiB" for each in databases])


def workers_possible(wanted: int) -> int:
    """Return how many workers this version of the server can have."""
    if wanted == 1:
        return 1
    command = [sys.executable, "-m", "ct_ops_server", "serve", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return wanted if "--workers" in done.stdout else 1


def table(done: list[Measured]) -> str:
    """Return what was measured as Markdown."""
    rows = [
        f"| {one.what} | {one.database} | {one.value} | {one.goal} | {one.verdict} | {one.load:.1f} |"
        for one in done
    ]
    head = ("| measure | database | measured | to reach | | load average |", "|---|---|---|---|---|---|")
    return "\n".join((*head, *rows))


if __name__ == "__main__":
    bench()
