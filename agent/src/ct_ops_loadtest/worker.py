"""One process of a run: ``python -m ct_ops_loadtest.worker``, started by ``crew`` and by nobody else.

On standard input an ``Order`` (one line of JSON: it holds a token, so it is no argument), then ``hold``, then ``stop``; the end of the
input means stop too, so no worker outlives its run. On standard output one line of JSON a second and event: a ``Report``.
Signals of the terminal are the parent's.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass, field

import msgspec
import uvloop

from ct_ops_loadtest.driver import Driver
from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.plan import Plan, Target

_TICK_S = 1.0


@dataclass(frozen=True)
class Order:
    """What one process does."""

    target: Target
    plan: Plan
    place: int
    """Of the process, among ``of``: it drives every agent whose number leaves this remainder."""
    of: int

    @property
    def numbers(self) -> range:
        """The agents' numbers."""
        return range(self.place, self.plan.agents, self.of)

    @property
    def concurrency(self) -> int:
        """This process's part of the registrations at a time."""
        return max(1, self.plan.concurrency // self.of)


@dataclass(frozen=True)
class Report:
    """How far it is."""

    settled: bool = False
    ended: bool = False
    tally: Tally = field(default_factory=Tally)


async def work(order: Order, words: asyncio.StreamReader) -> None:
    """Drive, and report."""
    hold, stop = asyncio.Event(), asyncio.Event()
    settled = asyncio.Event()
    driver = Driver(order.target, order.plan, order.numbers, concurrency=order.concurrency)

    async def obey() -> None:
        while word := (await words.readline()).strip():
            (hold if word == b"hold" else stop).set()
        stop.set()

    async def report() -> None:
        while True:
            _tell(Report(settled=settled.is_set(), tally=driver.measure()))
            await asyncio.sleep(_TICK_S)

    async with asyncio.TaskGroup() as group:
        helpers = [group.create_task(obey()), group.create_task(report())]
        waiting = group.create_task(_told(settled, driver))
        await driver.run(on_settled=settled.set, hold=hold, stop=stop)
        for helper in (*helpers, waiting):
            helper.cancel()
    _tell(Report(settled=True, ended=True, tally=driver.tally))


async def _told(settled: asyncio.Event, driver: Driver) -> None:
    """Report at once that all agents are settled: others wait for it."""
    await settled.wait()
    _tell(Report(settled=True, tally=driver.measure()))


def _tell(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


async def _main() -> None:
    loop = asyncio.get_running_loop()
    words = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(words), sys.stdin.buffer)
    order = msgspec.json.decode(await words.readline(), type=Order)
    await work(order, words)


def main() -> None:
    """Run as a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_main())


if __name__ == "__main__":
    main()
