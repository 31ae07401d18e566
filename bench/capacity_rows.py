"""The rows of the capacity page: each a run with a server and a database of its own.

A row measures under the whole load: virtual agents have all started, and where agents idle, one interval has passed. What is
reported beside the figure (``details``) says where the time and the memory went.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from installation import Installation, installation

from ct_ops_loadtest.crew import Crew, crew
from ct_ops_loadtest.figures import PERCENTS, Tally
from ct_ops_loadtest.plan import Plan

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from wire_client import Host, Wire
from work_wire import Connected, connected

BOTH = ("sqlite", "postgresql")
_KIB = 1024
_ASKED_HOSTS = 20
_SETTLE_S = 3.0
"""After the last agent has started: the server still works off its enrolment."""


@dataclass(frozen=True)
class Size:
    """How large and how long."""

    scale: float
    window_s: float
    hold_s: float
    workers: int
    processes: int

    def label(self, database: str) -> str:
        """Return what a row was measured on."""
        return database if self.workers == 1 else f"{database}, {self.workers} workers"

    def agents(self, whole: int) -> int:
        """Return how many agents stand for so many."""
        return max(1, round(whole * self.scale))


@dataclass(frozen=True)
class Measured:
    """One figure."""

    what: str
    database: str
    value: str
    goal: str
    reached: bool | None
    """None: there is no goal for it."""
    details: dict[str, Any] = field(default_factory=dict)
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    @property
    def verdict(self) -> str:
        """For people."""
        return "" if self.reached is None else "reached" if self.reached else "missed"

    def line(self) -> str:
        """Return it for the terminal."""
        return f"{self.what} ({self.database}): {self.value} [{self.goal}] {self.verdict} {json.dumps(self.details)}"

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """How a row is measured."""

    measure: Callable[[str, Size], Coroutine[Any, Any, Sequence[Measured]]]
    databases: tuple[str, ...] = BOTH
    workers: int = 1
    """Of a server on PostgreSQL."""


@asynccontextmanager
async def driven(server: Installation, size: Size, agents: int, *, interval_s: float) -> AsyncIterator[Crew]:
    """Drive agents that have all started; what the block measures is measured under their load."""
    plan = Plan(
        f"capacity-{agents}", agents=agents, ramp_s=0, duration_s=0, interval_s=interval_s, concurrency=64
    )
    async with crew(server.target, plan, size.processes) as members:
        await members.settled()
        members.hold()
        yield members
        await members.stop()


class Usage:
    """CPU of server and database from now on, in cores."""

    def __init__(self, server: Installation) -> None:
        self._server = server
        self._began_s, self._before = time.monotonic(), (server.server_cpu_s(), server.database_cpu_s())

    def cores(self) -> dict[str, float]:
        """Return it."""
        took_s = time.monotonic() - self._began_s
        now = (self._server.server_cpu_s(), self._server.database_cpu_s())
        return {
            name: round((after - before) / took_s, 3)
            for name, before, after in zip(("server", "database"), self._before, now, strict=True)
        }


def brief(tally: Tally) -> dict[str, Any]:
    """Return what of a run's figures explains a row."""
    figures = tally.figures()
    kept = (
        "agents", "connected_at_end", "heartbeats_per_s", "p50_ms", "p99_ms", "p99.9_ms", "max_ms", "unanswered",
        "streams_broken", "streams_refused", "put_off", "failures", "tool",
    )  # fmt: skip
    return {name: figures[name] for name in kept}


def _span(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:g} s"


# ---- heartbeats ----------------------------------------------------------------------------------


async def closed_loop(database: str, size: Size) -> Sequence[Measured]:
    """1,000 agents send the next frame as soon as the reply is there."""
    async with installation(database, workers=size.workers) as server:
        async with driven(server, size, size.agents(1_000), interval_s=0) as members:
            usage = Usage(server)
            await asyncio.sleep(size.window_s)
            cores = usage.cores()
        tally = members.tally
    rate = tally.figures()["heartbeats_per_s"]
    per_core = rate / max(0.001, sum(cores.values()))
    details = brief(tally) | {"cores": cores, "heartbeats_per_s_and_core": round(per_core)}
    return [
        Measured("durable heartbeats/s, 1,000 agents", database, f"{rate:,.0f}/s", "≥ 3,700/s", rate >= 3_700, details),
        Measured(
            "agents per core at 30 s, by that", database, f"{30 * per_core:,.0f}", "-", None, {}
        ),
    ]  # fmt: skip


async def round_trip(database: str, size: Size) -> Sequence[Measured]:
    """1,000 agents beat every second."""
    async with installation(database, workers=size.workers) as server:
        async with driven(server, size, size.agents(1_000), interval_s=1) as members:
            await asyncio.sleep(_SETTLE_S)
            usage, before = Usage(server), members.tally.round_trips
            await asyncio.sleep(size.window_s)
            cores, window = usage.cores(), members.tally.round_trips.since(before)
        tally = members.tally
    p99_ms = window.percentile_s(99) * 1e3
    return [
        Measured(
            "round trip, 1,000 agents every second, p99", database, f"{p99_ms:.0f} ms", "≤ 250 ms", p99_ms <= 250,
            {"cores": cores, "window": window.figures_ms(PERCENTS), "whole_run": brief(tally)},
        )
    ]  # fmt: skip


# ---- idle agents ---------------------------------------------------------------------------------


async def idle(database: str, size: Size) -> Sequence[Measured]:
    """3,000 agents beat every 30 s: what they cost."""
    agents = size.agents(3_000)
    async with installation(database, workers=size.workers) as server:
        before = server.memory_bytes()
        async with driven(server, size, agents, interval_s=30) as members:
            await asyncio.sleep(min(30.0, size.window_s))
            usage = Usage(server)
            await asyncio.sleep(size.window_s)
            cores = usage.cores()
            each_kib = (server.memory_bytes() - before) / agents / _KIB
        tally = members.tally
    used = sum(cores.values())
    return [
        Measured(
            "CPU of server and database, 3,000 agents at 30 s", database, f"{used:.2f} cores", "≤ 0.2 cores", used <= 0.2,
            {"cores": cores} | brief(tally),
        ),
        Measured(
            "memory per connected agent", database, f"{each_kib:.0f} KiB", "≤ 120 KiB", each_kib <= 120,
            {"server_before_mib": round(before / _KIB**2, 1), "agents": agents, "workers": size.workers},
        ),
    ]  # fmt: skip


async def statements(database: str, size: Size) -> Sequence[Measured]:
    """Count PostgreSQL's statements without agents and with 1,000 that idle."""
    agents = size.agents(1_000)
    async with installation(database, workers=size.workers) as server:
        await _log_statements(server)
        without = await _statements(server, size.window_s)
        async with driven(server, size, agents, interval_s=30) as members:
            await asyncio.sleep(min(30.0, size.window_s))
            began = members.tally.acknowledged
            with_agents = await _statements(server, size.window_s)
            heartbeats = members.tally.acknowledged - began
    more = {
        text: round((count - without[text]) / size.window_s, 2)
        for text, count in with_agents.items()
        if count - without[text] > 0.2 * size.window_s
    }
    others = {
        text: rate for text, rate in more.items() if not re.match(r"BEGIN|COMMIT|WITH|UPDATE agents", text)
    }
    each = sum(more.values()) / max(0.1, heartbeats / size.window_s)
    return [
        Measured(
            "database statements per heartbeat of an idle agent", database, f"{each:.2f}", "its share of a grouped write",
            each <= 4 and not others,
            {"heartbeats_per_s": round(heartbeats / size.window_s, 1), "more_per_s_than_without_agents": more, "others": others},
        )
    ]  # fmt: skip


async def _log_statements(server: Installation) -> None:
    connection = await asyncpg.connect(server.environ["DATABASE_URL"])
    try:
        await connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        await connection.execute("ALTER SYSTEM SET log_line_prefix = ''")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


async def _statements(server: Installation, window_s: float) -> Counter[str]:
    """Return how often each statement was executed in the next seconds."""
    assert server.cluster is not None
    log = next(file for file in (server.cluster / "log", *server.cluster.glob("*.log")) if file.is_file())
    begin = log.stat().st_size
    await asyncio.sleep(window_s)
    with log.open("rb") as opened:
        opened.seek(begin)
        text = opened.read().decode(errors="replace")
    found = re.findall(r"(?:execute [^:]*|statement): +([^\n]*)", text)
    return Counter(re.sub(r"\s+", " ", one)[:60].rstrip(" ;") for one in found)


# ---- pushes --------------------------------------------------------------------------------------


async def push(database: str, size: Size) -> Sequence[Measured]:
    """1,000 agents are connected, and hosts among them are asked, one after the other."""
    asks = max(50, round(300 * min(1.0, size.scale * 2)))
    async with installation(database, workers=size.workers) as server:
        wire = Wire(server.agent_port, (server.data_dir / "server-ca.crt").read_text())
        async with (
            driven(server, size, max(1, size.agents(1_000) - _ASKED_HOSTS), interval_s=30),
            _asked(server, wire) as hosts,
        ):
            pushed = sorted([await _push(server, hosts) for _ in range(asks)])
    p50, p99 = (pushed[min(len(pushed) - 1, int(len(pushed) * share))] * 1e3 for share in (0.5, 0.99))
    return [
        Measured(
            "command to agent, 1,000 connected, p50 / p99", database, f"{p50:.1f} / {p99:.1f} ms", "≤ 20 / 100 ms",
            p50 <= 20 and p99 <= 100, {"asks": asks},
        )
    ]  # fmt: skip


@asynccontextmanager
async def _asked(server: Installation, wire: Wire) -> AsyncIterator[list[Connected]]:
    """Connect hosts that answer questions; made of plain grpcio, one process: this one."""
    hosts = [Host(f"loadtest-asked-{number}") for number in range(_ASKED_HOSTS)]
    for host in hosts:
        await wire.register(host, server.token)
    contexts = [connected(wire, host) for host in hosts]
    try:
        yield [await context.__aenter__() for context in contexts]
    finally:
        for context in contexts:
            await context.__aexit__(None, None, None)


async def _push(server: Installation, hosts: list[Connected]) -> float:
    """Ask one host; return the seconds from the operator's request to the frame in the agent's hands."""
    host = random.choice(hosts)
    began_s = time.perf_counter()
    body: dict[str, object] = {"actor": "bench", "type": "list_ports"}
    asking = asyncio.create_task(server.ask("POST", f"agents/{host.host.agent_id}/queries", body))
    query = await host.query()
    took_s = time.perf_counter() - began_s
    await host.answer(query)
    await asking
    await asyncio.sleep(0.03)
    return took_s


# ---- restarts ------------------------------------------------------------------------------------


async def restart(database: str, size: Size) -> Sequence[Measured]:
    """5,000 agents lose their server, which comes back at once."""
    agents = size.agents(5_000)
    async with installation(database, workers=size.workers) as server:
        async with driven(server, size, agents, interval_s=30) as members:
            await server.stop()
            down_s = await server.start()
            ready_s = time.monotonic()
            back_s = await _all_back(members, agents, ready_s)
        tally = members.tally
    refused = {text: count for text, count in tally.failures.items() if not text.startswith("UNAVAILABLE")}
    longest_s = tally.reconnecting.longest_s
    return [
        Measured(
            "reconnect of 5,000 agents after a restart", database,
            "not all came back" if back_s is None else f"{back_s:.1f} s", "≤ 20 s, none refused",
            back_s is not None and back_s <= 20 and not refused,
            {"server_start_s": round(down_s, 1), "longest_away_s": round(longest_s, 1), "refused": refused, "put_off": tally.put_off,
             "streams_broken": tally.broken, "reconnecting": tally.figures()["reconnecting"]},
        )
    ]  # fmt: skip


async def _all_back(members: Crew, agents: int, ready_s: float) -> float | None:
    """Return how long after the server was ready the last agent was back; None: not within two minutes."""
    while (waited_s := time.monotonic() - ready_s) < 120:
        if members.tally.connected >= agents and members.tally.reconnecting.count >= agents:
            return waited_s
        await asyncio.sleep(0.2)
    return None


# ---- many ----------------------------------------------------------------------------------------


async def hold(database: str, size: Size) -> Sequence[Measured]:
    """10,000 agents on PostgreSQL, 6,000 on SQLite, at 30 s, for ten minutes."""
    whole = 10_000 if database == "postgresql" else 6_000
    agents = size.agents(whole)
    async with installation(database, workers=size.workers) as server:
        before = server.memory_bytes()
        async with driven(server, size, agents, interval_s=30) as members:
            usage = Usage(server)
            await asyncio.sleep(size.hold_s)
            cores, memory = usage.cores(), server.memory_bytes()
        tally = members.tally
    errors = sum(tally.failures.values()) + tally.unanswered
    details = {
        "cores": cores,
        "kib_per_agent": round((memory - before) / agents / _KIB),
        "workers": size.workers,
    }
    return [
        Measured(
            f"{whole:,} agents at 30 s, held for {_span(size.hold_s)}", database,
            f"{tally.connected:,} connected, {errors} errors", "no errors", tally.served, details | brief(tally),
        )
    ]  # fmt: skip


# ---- enrolment -----------------------------------------------------------------------------------


async def registrations(database: str, size: Size) -> Sequence[Measured]:
    """Register alone, 32 at a time, each on a connection of its own; the client is a process of its own."""
    agents = size.agents(1_000)
    async with installation(database, workers=size.workers) as server:
        given = json.dumps(
            {
                "token": server.token,
                "ca": (server.data_dir / "server-ca.crt").read_text(),
                "port": server.agent_port,
            }
        )
        before = server.server_cpu_s(), server.database_cpu_s()
        command = [sys.executable, str(Path(__file__).parent / "registrations.py"), "--client-of", given]
        done = await asyncio.to_thread(
            subprocess.run, [*command, "--agents", str(agents)], capture_output=True, text=True, check=True
        )
        after = server.server_cpu_s(), server.database_cpu_s()
    figures = json.loads(done.stdout)
    split = {
        "server_ms_each": round((after[0] - before[0]) / agents * 1e3, 2),
        "database_ms_each": round((after[1] - before[1]) / agents * 1e3, 2),
        "client_ms_each": round(figures["client_cpu_s"] / agents * 1e3, 2),
    }
    rate = figures["registrations_per_s"]
    return [
        Measured(
            "registrations/s, 32 at a time", database, f"{rate:.0f}/s", "≥ 330/s", rate >= 330,
            {"cpu": split, "p50_ms": figures["p50_ms"], "p99_ms": figures["p99_ms"]},
        )
    ]  # fmt: skip


ROWS = {
    "heartbeats": Row(closed_loop, workers=2),
    "idle": Row(idle),
    "statements": Row(statements, ("postgresql",)),
    "round-trip": Row(round_trip),
    "push": Row(push),
    "restart": Row(restart, workers=2),
    "registrations": Row(registrations, workers=2),
    "hold": Row(hold, workers=2),
}
