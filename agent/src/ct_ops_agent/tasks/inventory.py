"""Task ``software_inventory``: read the installed packages and upload them in chunks.

The list is read first, whole, then uploaded in chunks of 500. The last one says that it is the last; a server
stores nothing before that, so an upload that breaks has changed nothing and is done again from the start, as
soon as there is a connection. No packages at all is a failure: a server that believed it would mark everything
as removed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from ct_ops_agent.apart import Apart
from ct_ops_agent.backoff import Backoff
from ct_ops_agent.clock import Clock
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.tasks.job import BadConfigError, Job, TaskFailedError
from ct_ops_agent.tasks.links import LinkWatch
from ct_ops_agent.tasks.queries import ReadError
from ct_ops_agent.work import InventoryChunk, SoftwarePackage

_log = logging.getLogger(__name__)

TASK_TYPE = "software_inventory"
CHUNK_PACKAGES = 500
READ_DEADLINE_S = 300.0
UPLOADS = 20
"""So often an upload is tried before the task fails."""


@dataclass(frozen=True, slots=True)
class Packages:
    """What a package manager has installed."""

    source: str
    packages: Sequence[SoftwarePackage]


class SoftwareInventory:
    """Does the task."""

    def __init__(
        self, read: Callable[[], Packages], links: LinkWatch, clock: Clock, random: Callable[[], float]
    ) -> None:
        self._read = read
        self._links = links
        self._clock = clock
        self._random = random
        self._last: Apart[Packages] | None = None

    async def __call__(self, job: Job) -> str:
        """Read, upload, and return what was done."""
        check_config(job.task.config_json)
        found = await self._read_packages()
        if not found.packages:
            raise TaskFailedError(f"{found.source} names no installed package, which nobody believes")
        job.say(f"{len(found.packages)} packages of {found.source}")
        stored = await self._upload(job, found)
        job.say(f"{stored} packages stored")
        return msgspec.json.encode({"source": found.source, "packages": len(found.packages)}).decode()

    async def _read_packages(self) -> Packages:
        if self._last is not None and self._last.is_alive:
            raise TaskFailedError(
                "an earlier scan still hangs on the host; no second one is started beside it"
            )
        self._last = Apart("software inventory", self._read)
        try:
            return await self._last.wait(READ_DEADLINE_S)
        except ReadError as error:
            raise TaskFailedError(str(error)) from error
        except TimeoutError:
            raise TaskFailedError(f"the packages were not read within {READ_DEADLINE_S:g} s") from None

    async def _upload(self, job: Job, found: Packages) -> int:
        backoff = Backoff(first=1.0, ceiling=60.0, random=self._random)
        for _ in range(UPLOADS):
            link = await self._links.get()
            try:
                return await link.upload_inventory(chunks(job, found))
            except UnreachableError as error:
                _log.info("the upload of the software inventory is done again: %s", error)
                job.say("the connection was lost; the upload begins again")
                await self._clock.sleep(backoff.next_delay(at_least=error.retry_after.total_seconds()))
        raise TaskFailedError(f"the upload broke {UPLOADS} times; nothing has changed on the server")


def chunks(job: Job, found: Packages) -> Iterator[InventoryChunk]:
    """Yield the scan in chunks, telling how far the upload is."""
    packages = tuple(found.packages)
    for index, start in enumerate(range(0, len(packages), CHUNK_PACKAGES)):
        end = min(start + CHUNK_PACKAGES, len(packages))
        if start:
            job.say(f"{start} of {len(packages)} uploaded")
        yield InventoryChunk(
            task_id=job.task.task_id,
            attempt=job.task.attempt,
            source=found.source,
            index=index,
            is_last=end == len(packages),
            packages=packages[start:end],
        )


def check_config(config_json: str) -> None:
    """Accept an object or nothing. Its keys are for later versions.

    Raises:
        BadConfigError: it is something else.
    """
    try:
        config = msgspec.json.decode(config_json or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadConfigError("config_json is no JSON") from error
    if config is not None and not isinstance(config, dict):
        raise BadConfigError("config_json is no JSON object")
