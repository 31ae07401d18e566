"""The workshop: does everything that a server asks of this host. Fulfils `work.Works`.

It hands checks to `checks`, queries and tasks to `tasks`, and what all of them find to `Results`. Nothing here
waits: `take` returns at once, and a stream that ends leaves the checks running.

Checks are kept on disk only while the server is one that can take them back (feature ``definitions``); a list
of another server's, found at the start, ends when a server greets us that cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ct_ops_agent.checks.kept import KeptChecks
from ct_ops_agent.checks.plan import Planned
from ct_ops_agent.checks.runner import CheckRunner
from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import DEFINITIONS
from ct_ops_agent.tasks.attempts import Attempts
from ct_ops_agent.tasks.desk import TaskDesk
from ct_ops_agent.tasks.host import read_packages, read_ports, read_services
from ct_ops_agent.tasks.inventory import TASK_TYPE as INVENTORY
from ct_ops_agent.tasks.inventory import SoftwareInventory
from ct_ops_agent.tasks.links import LinkWatch
from ct_ops_agent.tasks.queries import QueryDesk, answers
from ct_ops_agent.work import CheckDefinition, Link, Results, Work


class Workshop:
    """Does what is asked, for as long as `run` runs."""

    def __init__(
        self, *, checks: CheckRunner, kept: KeptChecks, queries: QueryDesk, tasks: TaskDesk, links: LinkWatch
    ) -> None:
        self._checks = checks
        self._kept = kept
        self._queries = queries
        self._tasks = tasks
        self._links = links
        self._server_takes_back = True
        self._is_revocable = True
        """The list that runs is of a server that can take it back; so is whatever was kept."""

        self._has_news = asyncio.Event()
        self._is_open = True
        """Whether it takes work: the stream that brings work may end after the workshop."""

    async def run(self) -> None:
        """Go on with what was under way before the start, and end everything when cancelled."""
        self._checks.resume(self._kept.load())
        saving: asyncio.Future[None] | None = None
        try:
            await self._tasks.report_interrupted()
            while True:
                await self._has_news.wait()
                self._has_news.clear()
                saving = asyncio.ensure_future(asyncio.to_thread(self._kept.save, self._to_keep()))
                await asyncio.shield(saving)
        finally:
            self._is_open = False
            if saving is not None:  # a list that is older must not be written after the newest
                await asyncio.wait({saving})
            if self._has_news.is_set():
                self._kept.save(self._to_keep())
            await asyncio.gather(self._checks.stop(), self._queries.stop(), self._tasks.stop())

    def connected(self, link: Link) -> None:
        """A stream was welcomed; what comes next is asked on it."""
        self._server_takes_back = DEFINITIONS in link.features
        if self._is_revocable and not self._server_takes_back:
            self._take_checks(())
        self._queries.new_stream()
        self._links.set(link)

    def take(self, work: Work) -> None:
        """Start, change and stop what this frame of the server asks for, until the workshop has ended."""
        if not self._is_open:
            return  # nobody would stop it; the server asks again on the next stream
        if work.checks is not None:
            self._take_checks(work.checks)
        for query in work.queries:
            self._queries.ask(query)
        if work.task is not None:
            self._tasks.ask(work.task)
        self._tasks.cancel(work.cancelled_task_ids)

    def disconnected(self) -> None:
        """The stream has ended. Checks go on; what needs the link waits for the next one."""
        self._links.set(None)

    def _take_checks(self, definitions: Iterable[CheckDefinition]) -> None:
        was_revocable, self._is_revocable = self._is_revocable, self._server_takes_back
        if self._checks.take(definitions) or was_revocable != self._is_revocable:
            self._has_news.set()

    def _to_keep(self) -> Sequence[Planned]:
        return self._checks.planned if self._is_revocable else ()


def build_workshop(directory: Path, results: Results, clock: Clock, random: Callable[[], float]) -> Workshop:
    """Build a workshop that keeps its files in a directory and reads this host."""
    links = LinkWatch()
    inventory = SoftwareInventory(read_packages, links, clock, random)
    return Workshop(
        checks=CheckRunner(results, clock, random),
        kept=KeptChecks(directory),
        queries=QueryDesk(results, answers(read_ports, read_services)),
        tasks=TaskDesk(results, Attempts(directory), {INVENTORY: inventory}),
        links=links,
    )
