"""The software inventory: read whole, uploaded in chunks, never half."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from ct_ops_agent.errors import EnrolmentRefusedError, Refusal, UnreachableError
from ct_ops_agent.tasks import inventory
from ct_ops_agent.tasks.inventory import Packages, SoftwareInventory, check_config
from ct_ops_agent.tasks.job import BadConfigError, Job, TaskFailedError
from ct_ops_agent.tasks.links import LinkWatch
from ct_ops_agent.tasks.queries import ReadError
from ct_ops_agent.work import SoftwarePackage, Task
from work_desk import FakeLink, MovedTime, settle, until

TASK = Task("scan-1", "software_inventory", "{}", attempt=2)


def packages(number: int) -> Packages:
    return Packages("dpkg", [SoftwarePackage(f"p{index}", "1.0") for index in range(number)])


class Scan:
    """One run of the task."""

    def __init__(self, read: Callable[[], Packages], *, connected: bool = True) -> None:
        self.link, self.links, self.time = FakeLink(), LinkWatch(), MovedTime()
        self.said: list[str] = []
        if connected:
            self.links.set(self.link)
        self.does = SoftwareInventory(read, self.links, self.time.clock, lambda: 0.0)

    async def run(self, task: Task = TASK) -> str:
        return await self.does(Job(task, self.said.append))


@pytest.mark.parametrize(
    ("number", "sizes"), [(1, [1]), (499, [499]), (500, [500]), (501, [500, 1]), (1_234, [500, 500, 234])]
)
async def test_chunks_are_of_500_and_the_last_one_says_so(number: int, sizes: list[int]) -> None:
    """Exactly one does, also when the number is even; each names the scan, its attempt and its place."""
    scan = Scan(lambda: packages(number))

    result = await scan.run()

    (chunks,) = scan.link.scans
    assert sizes == [len(chunk.packages) for chunk in chunks]
    assert [False] * (len(sizes) - 1) + [True] == [chunk.is_last for chunk in chunks]
    assert list(range(len(sizes))) == [chunk.index for chunk in chunks]
    assert {("scan-1", 2, "dpkg")} == {(chunk.task_id, chunk.attempt, chunk.source) for chunk in chunks}
    assert f'{{"source":"dpkg","packages":{number}}}' == result


async def test_progress_is_told_while_it_uploads() -> None:
    """What an operator who waits sees."""
    scan = Scan(lambda: packages(1_234))

    await scan.run()

    assert [
        "1234 packages of dpkg",
        "500 of 1234 uploaded",
        "1000 of 1234 uploaded",
        "1234 packages stored",
    ] == scan.said


async def test_no_packages_at_all_is_a_failure() -> None:
    """The existing system once took it for the truth and wiped the host's list."""
    scan = Scan(lambda: packages(0))

    with pytest.raises(TaskFailedError, match="names no installed package"):
        await scan.run()
    assert [] == scan.link.scans


async def test_without_a_connection_it_waits_for_one() -> None:
    """The packages are read, and uploaded when there is a stream."""
    scan = Scan(lambda: packages(3), connected=False)
    running = asyncio.ensure_future(scan.run())
    await until(lambda: bool(scan.said))
    assert not running.done()

    scan.links.set(scan.link)

    assert '{"source":"dpkg","packages":3}' == await running


async def test_an_upload_that_breaks_begins_again_from_the_start() -> None:
    """A server stores nothing before the last chunk. The wait grows, and is as long as the server asks."""
    scan = Scan(lambda: packages(600))
    scan.link.breaks = [
        UnreachableError("gone"),
        UnreachableError("busy", retry_after=timedelta(seconds=30)),
    ]
    running = asyncio.ensure_future(scan.run())
    await until(lambda: len(scan.link.scans) == 1 and scan.time.next_waking is not None)
    await scan.time.advance(1.0)
    await scan.time.advance(29.0)
    assert 2 == len(scan.link.scans)
    await scan.time.advance(1.0)

    await running

    assert [1, 1, 2] == [len(chunks) for chunks in scan.link.scans]
    assert 2 == scan.said.count("the connection was lost; the upload begins again")


async def test_an_upload_that_always_breaks_ends() -> None:
    """As a failure that says that nothing has changed."""
    scan = Scan(lambda: packages(1))
    scan.link.breaks = [UnreachableError("gone")] * inventory.UPLOADS
    running = asyncio.ensure_future(scan.run())
    await until(lambda: bool(scan.link.scans))
    await scan.time.advance(3_600)

    with pytest.raises(TaskFailedError, match="nothing has changed on the server"):
        await running


async def test_an_upload_that_is_refused_is_not_repeated() -> None:
    """The server has said no."""
    scan = Scan(lambda: packages(1))
    scan.link.breaks = [EnrolmentRefusedError("not yours", Refusal("PERMISSION_DENIED", "", ""))]

    with pytest.raises(EnrolmentRefusedError):
        await scan.run()
    assert 1 == len(scan.link.scans)


async def test_what_the_host_says_against_it_is_the_failure() -> None:
    """In its words."""

    def fail() -> Packages:
        raise ReadError("no package manager that is known: dpkg, rpm, pacman, apk")

    with pytest.raises(TaskFailedError, match="no package manager"):
        await Scan(fail).run()


async def test_a_scan_that_hangs_is_not_started_again_beside_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does it take the task with it."""
    monkeypatch.setattr(inventory, "READ_DEADLINE_S", 0.05)
    release = threading.Event()

    def hang() -> Packages:
        release.wait(30)
        return packages(1)

    scan = Scan(hang)
    with pytest.raises(TaskFailedError, match=r"not read within 0\.05 s"):
        await scan.run()
    with pytest.raises(TaskFailedError, match="still hangs"):
        await scan.run()
    release.set()
    await until(lambda: all(thread.name != "software inventory" for thread in threading.enumerate()))

    await scan.run()


async def test_a_link_that_comes_and_goes_is_waited_for() -> None:
    """Who waits gets one that is there."""
    links, link = LinkWatch(), FakeLink()
    waiting = asyncio.ensure_future(links.get())
    links.set(link)
    links.set(None)
    await settle()
    assert not waiting.done()

    links.set(link)

    assert link is await waiting


@pytest.mark.parametrize("config", ["", "{}", "null", '{"sources":["dpkg"]}'])
def test_a_configuration_may_be_anything_that_is_one(config: str) -> None:
    """Its keys are for later versions."""
    check_config(config)


@pytest.mark.parametrize("config", ["{", "[1]", '"x"', "1", "[" * 100_000])
def test_a_configuration_that_is_none_is_named(config: str) -> None:
    """Refused, not guessed."""
    with pytest.raises(BadConfigError, match="config_json"):
        check_config(config)
