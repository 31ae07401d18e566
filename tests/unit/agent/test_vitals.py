"""Vitals are plausible, and the load is measured over the interval."""

import time

import psutil
import pytest

from ct_ops_agent.disks import DiskReader, DiskReading
from ct_ops_agent.vitals import (
    CpuGauge,
    CpuTimes,
    Interface,
    VitalsReader,
    addresses_of,
    cpu_percent,
    read_cpu_times,
    read_interfaces,
    read_uptime_seconds,
)


class Machine:
    """Processor times that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.times = CpuTimes(busy=10.0, total=100.0)

    def gauge(self) -> CpuGauge:
        return CpuGauge(lambda: self.times, lambda: self.now)


def test_the_first_load_is_the_average_since_boot() -> None:
    """There is no interval yet, and a window of milliseconds would be noise."""
    assert 10.0 == Machine().gauge().percent()


def test_the_load_is_that_of_the_interval() -> None:
    """Busy half of the time between two heartbeats: 50 percent."""
    machine = Machine()
    gauge = machine.gauge()
    gauge.percent()

    machine.now, machine.times = 30.0, CpuTimes(busy=25.0, total=130.0)

    assert 50.0 == gauge.percent()


def test_frames_close_together_repeat_the_last_load() -> None:
    """A frame 0.1 s after another does not show the agent's own work as a spike of 100 percent."""
    machine = Machine()
    gauge = machine.gauge()
    gauge.percent()

    machine.now, machine.times = 0.1, CpuTimes(busy=10.1, total=100.1)

    assert 10.0 == gauge.percent()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (CpuTimes(1, 10), CpuTimes(1, 10), 0.0),
        (CpuTimes(5, 10), CpuTimes(4, 20), 0.0),
        (CpuTimes(0, 10), CpuTimes(30, 20), 100.0),
    ],
    ids=["no time passed", "counter went back", "more than all"],
)
def test_absurd_counters_give_no_absurd_load(before: CpuTimes, after: CpuTimes, expected: float) -> None:
    """Virtual machines that move have counters that jump; a percentage stays one."""
    assert expected == cpu_percent(before, after)


async def test_this_host_is_alive() -> None:
    """Real readings are in their ranges."""
    vitals = await VitalsReader(CpuGauge(), DiskReader()).read()

    assert 0 <= vitals.cpu_percent <= 100
    assert 0 < vitals.memory_percent < 100
    assert 0 < vitals.disk_percent <= 100
    assert vitals.uptime_seconds > 0
    assert any("127.0.0.1" in interface.ip_addresses for interface in vitals.interfaces)


async def test_the_root_disks_share_is_the_disks_readers() -> None:
    """In a container the root is no disk of its own, so it is read apart."""
    disks = DiskReader(lambda: DiskReading(root_percent_used=42.0))

    assert 42.0 == (await VitalsReader(CpuGauge(), disks).read()).disk_percent


def test_busy_time_is_part_of_all_time() -> None:
    """Idle and waiting for I/O are taken off."""
    times = read_cpu_times()

    assert 0 < times.busy < times.total


def test_uptime_is_about_what_the_kernel_says() -> None:
    """Seconds since boot, from a clock that is not set."""
    assert read_uptime_seconds() == pytest.approx(time.time() - psutil.boot_time(), abs=120)


def test_addresses_are_listed_once_and_without_loopback() -> None:
    """What the server gets as evidence says nothing that is true of every host."""
    interfaces = (
        Interface("lo", ("127.0.0.1", "::1"), "", is_up=True),
        Interface("eth0", ("192.0.2.1", "2001:db8::1"), "00:00:5e:00:53:01", is_up=True),
        Interface("eth0:1", ("192.0.2.1",), "", is_up=False),
    )

    assert ("192.0.2.1", "2001:db8::1") == addresses_of(interfaces)


def test_a_host_that_hides_its_interfaces_still_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hardened unit may forbid netlink; the heartbeat goes out without interfaces."""

    def forbidden() -> dict[str, object]:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(psutil, "net_if_addrs", forbidden)

    assert () == read_interfaces()
