"""Disks are read in time or not at all."""

import asyncio
import threading

import pytest

from ct_ops_agent.disks import DiskReader, DiskReading, Mount, read_disks, real_mounts

READING = DiskReading(root_percent_used=50.0)


async def test_a_hung_mount_does_not_stop_the_heartbeat(caplog: pytest.LogCaptureFixture) -> None:
    """Attack: a mount that never answers costs the deadline, then the last figures are used."""
    hang, rounds = threading.Event(), list[int]()

    def read() -> DiskReading:
        rounds.append(1)
        if len(rounds) > 1:
            hang.wait(10)
        return READING

    reader = DiskReader(read, deadline_s=0.05)
    try:
        await reader.read()

        assert READING == await reader.read()
        assert READING == await reader.read()
        assert 2 == len(rounds), "no second thread while the first one hangs"
    finally:
        hang.set()
    assert "does not answer" in caplog.text


async def test_a_mount_that_comes_back_is_read_again() -> None:
    """The late round is taken as soon as it is there."""
    hang = threading.Event()

    def read() -> DiskReading:
        hang.wait(10)
        return READING

    reader = DiskReader(read, deadline_s=0.05)
    assert DiskReading() == await reader.read()

    hang.set()
    async with asyncio.timeout(30):
        while await reader.read() != READING:
            pass


async def test_a_reading_that_fails_leaves_the_last_figures(caplog: pytest.LogCaptureFixture) -> None:
    """A host that does not let us look is reported as before, and said so."""

    def read() -> DiskReading:
        raise PermissionError(13, "Permission denied")

    assert DiskReading() == await DiskReader(read).read()
    assert "cannot read the disks" in caplog.text


def test_a_device_is_counted_once() -> None:
    """Bind mounts repeat a device; the shortest path names it. Images that are always full are none."""
    mounts = (
        Mount("/etc/hosts", "/dev/vda1", "ext4"),
        Mount("/", "/dev/vda1", "ext4"),
        Mount("/snap/core/1", "/dev/loop0", "squashfs"),
        Mount("/data", "/dev/vdb", "xfs"),
    )

    assert (mounts[1], mounts[3]) == real_mounts(mounts)


def test_this_hosts_disks_add_up() -> None:
    """Real figures are sizes of something."""
    reading = read_disks()

    assert 0 < reading.root_percent_used <= 100
    assert all(disk.used_bytes + disk.free_bytes <= disk.total_bytes for disk in reading.disks)
