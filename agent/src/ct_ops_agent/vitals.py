"""Vitals: how the host is doing, read with psutil once a heartbeat.

* CPU is the load *between* two heartbeats. Frames that follow each other closely repeat the last
  value: over a tiny window the agent would mostly measure itself (existing agents showed spikes of
  100 % for that reason). The first value is the average since boot.
* Disks are read in a thread with a deadline (`disks`); everything else here answers at once.
* Percentages are 0 to 100, sizes are bytes, uptime is seconds.

What stays the same between two heartbeats is in `host`.
"""

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from ct_ops_agent.disks import Disk, DiskReader

_log = logging.getLogger(__name__)

_SHORTEST_CPU_WINDOW_S = 1.0


@dataclass(frozen=True)
class Interface:
    """A network interface."""

    name: str
    ip_addresses: tuple[str, ...]
    mac_address: str
    is_up: bool


@dataclass(frozen=True)
class Vitals:
    """One look at the host."""

    cpu_percent: float
    memory_percent: float
    disk_percent: float
    """Of the root file system."""

    uptime_seconds: int
    disks: tuple[Disk, ...]
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True)
class CpuTimes:
    """Seconds of all processors since boot."""

    busy: float
    total: float


class CpuGauge:
    """The load since the last reading, never over less than a second."""

    def __init__(
        self, read: Callable[[], CpuTimes] | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read or read_cpu_times
        self._monotonic = monotonic
        self._before = CpuTimes(0.0, 0.0)
        self._read_at = float("-inf")
        self._percent = 0.0

    def percent(self) -> float:
        """Return the load in percent since the reading before, since boot for the first one."""
        now = self._monotonic()
        if now - self._read_at >= _SHORTEST_CPU_WINDOW_S:
            times = self._read()
            self._percent = cpu_percent(self._before, times)
            self._before, self._read_at = times, now
        return self._percent


class VitalsReader:
    """Reads all vitals of this host."""

    def __init__(self, cpu: CpuGauge, disks: DiskReader) -> None:
        self._cpu = cpu
        self._disks = disks

    async def read(self) -> Vitals:
        """Look at the host now. Takes milliseconds; with a hung disk, the disks' deadline."""
        reading = await self._disks.read()
        return Vitals(
            cpu_percent=self._cpu.percent(),
            memory_percent=psutil.virtual_memory().percent,
            disk_percent=reading.root_percent_used,
            uptime_seconds=read_uptime_seconds(),
            disks=reading.disks,
            interfaces=read_interfaces(),
        )


def cpu_percent(before: CpuTimes, after: CpuTimes) -> float:
    """Return the load between two readings in percent, 0 when no time passed between them."""
    elapsed = after.total - before.total
    if elapsed <= 0:
        return 0.0
    return min(max(100.0 * (after.busy - before.busy) / elapsed, 0.0), 100.0)


def read_cpu_times() -> CpuTimes:
    """Read how long the processors were busy since boot. Waiting for I/O is not being busy."""
    times = psutil.cpu_times()
    # Linux counts a guest's time in user as well (proc(5)), so it is not added again.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    return CpuTimes(busy=total - idle, total=total)


def read_uptime_seconds() -> int:
    """Return the seconds since boot, from a clock that setting the time does not move where there is one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return int(time.clock_gettime(time.CLOCK_BOOTTIME))
    return max(int(time.time() - psutil.boot_time()), 0)


def read_interfaces() -> tuple[Interface, ...]:
    """Read every network interface with its addresses, none where the host does not let us look."""
    try:
        states, addresses_by_name = psutil.net_if_stats(), psutil.net_if_addrs()
    except OSError as error:  # a hardened unit may forbid the netlink sockets this takes
        _log.warning("cannot read the network interfaces: %s", error)
        return ()
    return tuple(
        Interface(
            name=name,
            ip_addresses=tuple(
                found.address.partition("%")[0]  # fe80::1%eth0: the scope means nothing elsewhere
                for found in addresses
                if found.family in {socket.AF_INET, socket.AF_INET6}
            ),
            mac_address=next((found.address for found in addresses if found.family == psutil.AF_LINK), ""),
            is_up=name in states and states[name].isup,
        )
        for name, addresses in sorted(addresses_by_name.items())
    )


def addresses_of(interfaces: tuple[Interface, ...]) -> tuple[str, ...]:
    """Return every address of the host once, loopback left out."""
    found = (address for interface in interfaces for address in interface.ip_addresses)
    return tuple(dict.fromkeys(address for address in found if not _is_loopback(address)))


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")
