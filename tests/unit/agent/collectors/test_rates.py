"""Rates: disks and networks tell what they did a second since the run before, never a negative number."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_agent.collector import CollectorError, Rates, Settings
from ct_ops_agent.collector_testing import collected
from ct_ops_agent.collectors.disk_io import DiskIo, parse_diskstats
from ct_ops_agent.collectors.network import Network, NetworkSettings, parse_net_dev

DISKSTATS = """\
   8       0 sda {reads} 0 {sectors} 0 50 0 800 0 0 {busy} 0 0 0 0 0 0 0
   8       1 sda1 10 0 80 0 50 0 800 0 0 100 0
   7       0 loop0 1 0 8 0 0 0 0 0 0 0 0
 254       0 dm-0 1 0 8 0 0 0 0 0 0 0 0
   8      16 short 1 2
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
  eth0:{received} 10 1 2 0 0 0 0 500 5 3 4 0 0 0 0
veth12: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
eth0.7: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
"""


def test_a_rate_is_the_growth_over_the_time_between_two_runs() -> None:
    """And needs two."""
    rates = Rates()
    first = rates.per_second("a", 100, 0.0)
    rates.end_of_run()

    assert (None, 5.0) == (first, rates.per_second("a", 150, 10.0))


@pytest.mark.parametrize(("total", "now_s"), [(99, 10.0), (150, 0.0)])
def test_a_counter_that_went_back_and_a_clock_that_stood_have_no_rate(total: float, now_s: float) -> None:
    """A reboot is no drop."""
    rates = Rates()
    rates.per_second("a", 100, 0.0)
    rates.end_of_run()

    assert rates.per_second("a", total, now_s) is None


def test_a_device_that_was_away_for_a_run_begins_anew() -> None:
    """The next one of its name may be another."""
    rates = Rates()
    rates.per_second("a", 100, 0.0)
    rates.end_of_run()
    rates.end_of_run()

    assert rates.per_second("a", 200, 10.0) is None


def disk_io(folder: Path, now: list[float]) -> DiskIo:
    for name in ("sda", "loop0", "dm-0"):
        (folder / "block" / name).mkdir(parents=True, exist_ok=True)
    return DiskIo(Settings(), folder / "diskstats", folder / "block", monotonic=lambda: now[0])


def test_a_disk_tells_bytes_requests_and_how_busy_it_was(tmp_path: Path) -> None:
    """Whole disks only: no partitions, images or volumes on top of them."""
    now = [0.0]
    collector = disk_io(tmp_path, now)
    (tmp_path / "diskstats").write_text(DISKSTATS.format(reads=10, sectors=80, busy=1000))
    first = collected(collector)
    now[0] = 10.0
    (tmp_path / "diskstats").write_text(DISKSTATS.format(reads=30, sectors=280, busy=6000))
    second = collected(collector)

    assert {} == first
    assert {
        'disk_io.read_bytes_per_second{device="sda"}': 200 * 512 / 10,
        'disk_io.reads_per_second{device="sda"}': 2.0,
        'disk_io.busy_percent{device="sda"}': 50.0,
        'disk_io.write_bytes_per_second{device="sda"}': 0.0,
        'disk_io.writes_per_second{device="sda"}': 0.0,
    } == second


def test_without_sys_partitions_are_told_beside_their_disks(tmp_path: Path) -> None:
    """A container that hides it."""
    now = [0.0]
    collector = DiskIo(Settings(), tmp_path / "diskstats", tmp_path / "none", monotonic=lambda: now[0])
    (tmp_path / "diskstats").write_text(DISKSTATS.format(reads=1, sectors=1, busy=1))
    collected(collector)
    now[0] = 1.0

    assert {"sda", "sda1"} == {series.partition('"')[2].partition('"')[0] for series in collected(collector)}


def network(folder: Path, now: list[float]) -> Network:
    return Network(NetworkSettings(), folder / "dev", monotonic=lambda: now[0])


def test_an_interface_tells_what_it_received_and_sent(tmp_path: Path) -> None:
    """Not the loopback, nor those of containers, which come and go."""
    now = [0.0]
    collector = network(tmp_path, now)
    (tmp_path / "dev").write_text(NET_DEV.format(received=1000))
    collected(collector)
    now[0] = 4.0
    (tmp_path / "dev").write_text(NET_DEV.format(received=3000))
    samples = collected(collector)

    assert 500.0 == samples['network.receive_bytes_per_second{interface="eth0"}']
    assert {"eth0", "eth0.7"} == {series.partition('"')[2].partition('"')[0] for series in samples}


def test_an_interface_that_was_made_anew_has_no_rate_for_a_run(tmp_path: Path) -> None:
    """Its counters began again."""
    now = [0.0]
    collector = network(tmp_path, now)
    (tmp_path / "dev").write_text(NET_DEV.format(received=1000))
    collected(collector)
    now[0] = 4.0
    (tmp_path / "dev").write_text(NET_DEV.format(received=5))

    assert 'network.receive_bytes_per_second{interface="eth0"}' not in collected(collector)


def test_lines_that_are_no_counters_are_left_out() -> None:
    """Headings, and what was cut off."""
    assert {"sda", "sda1", "loop0", "dm-0"} == parse_diskstats(
        DISKSTATS.format(reads=1, sectors=1, busy=1)
    ).keys()
    assert {"lo", "eth0", "veth12", "eth0.7"} == parse_net_dev(NET_DEV.format(received=1)).keys()


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Of both."""
    with pytest.raises(CollectorError, match="cannot be read"):
        list(DiskIo(Settings(), tmp_path / "none").collect())
    with pytest.raises(CollectorError, match="cannot be read"):
        list(Network(NetworkSettings(), tmp_path / "none").collect())
