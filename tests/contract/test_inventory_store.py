"""What ``fleet.work_ports.InventoryStore`` promises: a scan is stored whole, or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from contract.work_values import BASH, CURL, WorkUnderTest, result, task
from ct_ops_server.fleet.orders import ScannedPackage, ScanStored
from ct_ops_server.fleet.tasks import TaskState
from ct_ops_server.fleet.work_ports import ScanRefusedError

NEWER_BASH = replace(BASH, version="5.2-2")


async def scanning(work: WorkUnderTest, task_id: str = "t1") -> None:
    """Have a task run on an agent."""
    await work.tasks.give(task(task_id))
    await work.push(await work.stream("a"))


async def scan(work: WorkUnderTest, task_id: str, *packages: ScannedPackage) -> ScanStored:
    """Scan a host anew."""
    await scanning(work, task_id)
    await asyncio.sleep(0.005)
    stored = await work.inventory.store_scan("a", task_id, 0, packages)
    await work.say("a", result(task_id))
    return stored


async def names(work: WorkUnderTest, *, removed: bool = False) -> list[tuple[str, str]]:
    found = await work.inventory.packages("a", name=None, removed=removed)
    return [(each.package.name, each.package.version) for each in found]


async def test_a_chunk_is_a_sign_of_life(work: WorkUnderTest) -> None:
    """It accepts the task, and stores nothing yet."""
    await work.enrol("a")
    await scanning(work)
    await work.inventory.begin_scan("a", "t1", 0)

    assert TaskState.RUNNING is (await work.task()).state
    assert [] == await names(work)


async def test_a_complete_scan_is_what_is_installed(work: WorkUnderTest) -> None:
    """With everything that the package manager says."""
    await work.enrol("a")

    assert ScanStored(found=2, new=2, removed=0) == await scan(work, "t1", CURL, BASH)
    found = await work.inventory.packages("a", name=None, removed=False)
    assert [BASH, CURL] == [each.package for each in found]
    assert all(each.first_seen_at == each.last_seen_at for each in found)


async def test_a_package_that_is_gone_is_marked_and_keeps_its_history(work: WorkUnderTest) -> None:
    """An upgrade is a version that went and one that came."""
    await work.enrol("a")
    await scan(work, "t1", BASH, CURL)
    first = (await work.inventory.packages("a", name="curl", removed=False))[0]

    assert ScanStored(found=2, new=1, removed=1) == await scan(work, "t2", NEWER_BASH, CURL)
    assert [("bash", "5.2-2"), ("curl", "8.1-1")] == await names(work)
    (gone,) = await work.inventory.packages("a", name=None, removed=True)
    still = (await work.inventory.packages("a", name="curl", removed=False))[0]
    assert BASH == gone.package
    assert gone.removed_at is not None
    assert gone.removed_at > gone.last_seen_at
    assert first.first_seen_at == still.first_seen_at < still.last_seen_at


async def test_a_package_that_comes_back_is_there_since_it_was_first_seen(work: WorkUnderTest) -> None:
    """And says when it came back."""
    await work.enrol("a")
    await scan(work, "t1", BASH, CURL)
    first = (await work.inventory.packages("a", name="bash", removed=False))[0]
    await scan(work, "t2", CURL)

    assert ScanStored(found=2, new=0, removed=0) == await scan(work, "t3", BASH, CURL)
    again = (await work.inventory.packages("a", name="bash", removed=False))[0]
    assert first.first_seen_at == again.first_seen_at
    assert again.last_seen_at == again.returned_at
    assert again.removed_at is None
    curl = (await work.inventory.packages("a", name="curl", removed=False))[0]
    assert curl.returned_at is None


async def test_a_package_without_an_architecture_is_one_package(work: WorkUnderTest) -> None:
    """Scanned twice it is not two: nothing equals NULL, so it is empty."""
    await work.enrol("a")
    bare = ScannedPackage("apk", "musl", "1.2", "", "", 0)
    await scan(work, "t1", bare)

    assert ScanStored(found=1, new=0, removed=0) == await scan(work, "t2", bare)


async def test_a_package_that_is_named_twice_is_stored_once(work: WorkUnderTest) -> None:
    """One statement cannot write a row twice."""
    await work.enrol("a")
    await scan(work, "t1", BASH, replace(BASH, publisher="later"))
    (found,) = await work.inventory.packages("a", name=None, removed=False)

    assert "later" == found.package.publisher


@pytest.mark.parametrize("scan_id", ["t1", "nothing"])
async def test_another_agents_scan_cannot_be_uploaded(work: WorkUnderTest, scan_id: str) -> None:
    """Neither begun nor completed, and not told from one that does not exist."""
    await work.enrol("a", "b")
    await scanning(work)
    with pytest.raises(ScanRefusedError, match="scan_not_yours"):
        await work.inventory.begin_scan("b", scan_id, 0)
    with pytest.raises(ScanRefusedError, match="scan_not_yours"):
        await work.inventory.store_scan("b", scan_id, 0, [BASH])

    assert TaskState.SENT is (await work.task()).state
    assert [] == await work.inventory.packages("b", name=None, removed=False)


async def test_a_task_that_was_never_pushed_takes_no_upload(work: WorkUnderTest) -> None:
    """Nor does one that has ended: the first result won."""
    await work.enrol("a")
    await work.tasks.give(task())
    with pytest.raises(ScanRefusedError, match="scan_not_wanted"):
        await work.inventory.store_scan("a", "t1", 0, [BASH])
    await work.push(await work.stream("a"))
    await work.say("a", result())
    with pytest.raises(ScanRefusedError, match="scan_not_wanted"):
        await work.inventory.store_scan("a", "t1", 0, [BASH])

    assert [] == await names(work)


async def test_an_upload_after_the_revocation_is_not_stored(work: WorkUnderTest) -> None:
    """By the agent's row as it is at the commit."""
    await work.enrol("a")
    await scanning(work)
    await work.inventory.begin_scan("a", "t1", 0)
    await work.revoke("a")
    with pytest.raises(ScanRefusedError, match="revoked"):
        await work.inventory.store_scan("a", "t1", 0, [BASH])

    assert [] == await names(work)


async def test_fifty_thousand_packages_are_one_scan(work: WorkUnderTest) -> None:
    """As many as a scan may have."""
    await work.enrol("a")
    many = [replace(BASH, name=f"package-{number}") for number in range(50_000)]
    await scan(work, "t1", *many)

    assert ScanStored(found=49_999, new=0, removed=1) == await scan(work, "t2", *many[1:])


async def test_hosts_do_not_share_packages(work: WorkUnderTest) -> None:
    """One host's scan removes nothing from another."""
    await work.enrol("a", "b")
    await scan(work, "t1", BASH, CURL)
    await work.tasks.give(task("t9", "b"))
    await work.push(await work.stream("b"))
    await work.inventory.store_scan("b", "t9", 0, [BASH])

    assert [("bash", "5.2-1"), ("curl", "8.1-1")] == await names(work)
