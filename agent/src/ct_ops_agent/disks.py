"""Disks, read so that a dead one cannot stop a heartbeat.

Asking a hung mount (an unreachable network share, a dying disk) for its size blocks in the kernel
for minutes. So one daemon thread reads, the heartbeat waits for it a bounded time, and a round that
is not back by then leaves the last known values in the report: they are old, but the heartbeat is
on time. While a round hangs no second one is started, so threads do not pile up.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

_log = logging.getLogger(__name__)

_NO_DISKS = frozenset({"squashfs", "iso9660", "udf"})
"""Images that are mounted read-only are always full and no disks of the host."""


_ROOT = os.path.abspath(os.sep)  # noqa: PTH100 - Path would not turn "/" into the current drive on Windows


@dataclass(frozen=True)
class Disk:
    """A mounted file system on a real device."""

    mount_point: str
    device: str
    fs_type: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    percent_used: float


@dataclass(frozen=True)
class Mount:
    """Where a device is mounted."""

    mount_point: str
    device: str
    fs_type: str


@dataclass(frozen=True)
class DiskReading:
    """All disks at one moment."""

    root_percent_used: float = 0.0
    """Of the root file system, which in a container is no disk of its own."""

    disks: tuple[Disk, ...] = ()


class DiskReader:
    """Reads every real disk of the host, in a thread, within a deadline."""

    def __init__(self, read: Callable[[], DiskReading] | None = None, *, deadline_s: float = 2.0) -> None:
        self._read = read or read_disks
        self._deadline_s = deadline_s
        self._last = DiskReading()
        self._round: asyncio.Future[DiskReading] | None = None

    async def read(self) -> DiskReading:
        """Return the disks as of now, or as last known when a mount does not answer in time."""
        reading = self._round or self._start()
        done, _ = await asyncio.wait({reading}, timeout=self._deadline_s)
        if not done:
            _log.warning("a mounted file system does not answer; disk figures are from before")
            return self._last
        self._round = None
        self._last = reading.result()
        return self._last

    def _start(self) -> asyncio.Future[DiskReading]:
        loop = asyncio.get_running_loop()
        reading: asyncio.Future[DiskReading] = loop.create_future()
        # A daemon thread, not the loop's executor: a hung executor thread would block the exit.
        threading.Thread(target=self._run, args=(loop, reading), name="disks", daemon=True).start()
        self._round = reading
        return reading

    def _run(self, loop: asyncio.AbstractEventLoop, reading: asyncio.Future[DiskReading]) -> None:
        try:
            result = self._read()
        except OSError as error:
            _log.warning("cannot read the disks: %s; their figures are from before", error)
            result = self._last
        if not loop.is_closed():
            loop.call_soon_threadsafe(_deliver, reading, result)


def read_disks() -> DiskReading:
    """Ask every real disk for its size. May block as long as a mount likes."""
    mounts = (Mount(found.mountpoint, found.device, found.fstype) for found in psutil.disk_partitions())
    read = (_read_disk(mount) for mount in real_mounts(mounts))
    disks = tuple(disk for disk in read if disk is not None)
    return DiskReading(psutil.disk_usage(_ROOT).percent, disks)


def real_mounts(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """Return one mount for each device: the shortest path, since bind mounts repeat a device."""
    shortest: dict[str, Mount] = {}
    for mount in mounts:
        known = shortest.get(mount.device)
        if mount.fs_type not in _NO_DISKS and (not known or len(mount.mount_point) < len(known.mount_point)):
            shortest[mount.device] = mount
    return tuple(sorted(shortest.values(), key=lambda mount: mount.mount_point))


def _read_disk(mount: Mount) -> Disk | None:
    try:
        usage = psutil.disk_usage(mount.mount_point)
    except OSError as error:  # unmounted meanwhile, or not ours to look at
        _log.debug("cannot read %s: %s", mount.mount_point, error)
        return None
    return Disk(
        mount.mount_point, mount.device, mount.fs_type, usage.total, usage.used, usage.free, usage.percent
    )


def _deliver(reading: asyncio.Future[DiskReading], result: DiskReading) -> None:
    if not reading.done():
        reading.set_result(result)
