"""Disk usage: one mount a device, and a dead one that stops nobody."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ct_ops_agent.collector import CollectorError
from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.disk import Disk, DiskSettings, chosen, parse_mounts

MOUNTS = r"""/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
/dev/sda1 /var/lib/docker/bind ext4 rw 0 0
/dev/sdb1 /srv/with\040blank xfs rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/loop3 /snap/core/1 squashfs ro 0 0
nas:/export /mnt/nas nfs4 rw 0 0
broken
"""
SIZES = os.statvfs_result((4096, 4096, 1000, 400, 300, 100, 25, 25, 0, 255))


def disk(
    folder: Path, statvfs: Callable[[str], os.statvfs_result], settings: DiskSettings | None = None
) -> Disk:
    (folder / "mounts").write_text(MOUNTS)
    return Disk(settings or DiskSettings(), folder / "mounts", statvfs, deadline_s=0.2)


def test_file_systems_on_devices_are_told_once(tmp_path: Path) -> None:
    """The shortest path of a device; no images, no pseudo file systems, no shares."""
    samples = collected(disk(tmp_path, lambda _: SIZES))

    assert 2.0 == samples["disk.file_systems"]
    assert 4_096_000.0 == samples['disk.total_bytes{device="/dev/sdb1",mount="/srv/with blank",type="xfs"}']
    assert not [series for series in samples if "bind" in series or "nas" in series or "snap" in series]


def test_shares_are_told_when_they_are_asked_for_and_mounts_can_be_left_out() -> None:
    """By pattern."""
    mounts = parse_mounts(MOUNTS)

    assert ["/", "/mnt/nas", "/srv/with blank"] == [
        one.point for one in chosen(mounts, network=True, ignore=[])
    ]
    assert ["/"] == [one.point for one in chosen(mounts, network=False, ignore=["/srv/*"])]


def test_fullness_is_counted_as_df_does(tmp_path: Path) -> None:
    """What is reserved for root is neither used nor left: 600 used, 300 left."""
    samples = collected(disk(tmp_path, lambda _: SIZES))
    labels = '{device="/dev/sda1",mount="/",type="ext4"}'

    assert 600 / 900 * 100 == pytest.approx(samples[f"disk.used_percent{labels}"])
    assert (1_228_800.0, 75.0) == (
        samples[f"disk.free_bytes{labels}"],
        samples[f"disk.inodes_used_percent{labels}"],
    )


def test_outage_a_dead_mount_is_said_and_asked_again_only_when_it_has_returned(tmp_path: Path) -> None:
    """The others are told in time, and no second thread is started for it."""
    release, asked = threading.Event(), []

    def statvfs(point: str) -> os.statvfs_result:
        asked.append(point)
        if point != "/":
            release.wait(20)
        return SIZES

    collector = disk(tmp_path, statvfs)
    first, second = missing_parts(collector), missing_parts(collector)
    times = asked.count("/srv/with blank")
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("collector disk"):
            thread.join(20)
    third = collected(collector)

    assert {"/srv/with blank"} == first.keys() == second.keys()
    assert 1 == times
    assert [series for series in third if "with blank" in series]


def test_a_mount_that_may_not_be_asked_is_said(tmp_path: Path) -> None:
    """The others are told."""

    def statvfs(point: str) -> os.statvfs_result:
        if point == "/":
            raise PermissionError(13, "Permission denied")
        return SIZES

    assert {"/": "cannot be asked: Permission denied"} == missing_parts(disk(tmp_path, statvfs))


def test_a_file_system_without_inodes_tells_no_share_of_them(tmp_path: Path) -> None:
    """Btrfs says 0 of 0."""
    sizes = os.statvfs_result((4096, 4096, 1000, 400, 300, 0, 0, 0, 0, 255))
    samples = collected(disk(tmp_path, lambda _: sizes))

    assert not [series for series in samples if "inodes" in series]


def test_an_empty_file_system_divides_by_nothing(tmp_path: Path) -> None:
    """A card reader without a card."""
    sizes = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))

    assert not [series for series in collected(disk(tmp_path, lambda _: sizes)) if "percent" in series]


def test_without_the_kernels_list_nothing_is_known(tmp_path: Path) -> None:
    """An error, not an empty host."""
    with pytest.raises(CollectorError, match="cannot be read"):
        list(Disk(DiskSettings(), tmp_path / "none").collect())


class Dead:
    """File systems of which some do not answer until they are let go; counts who was asked."""

    def __init__(self, *dead: str) -> None:
        self.asked: list[str] = []
        self._dead = dead
        self._released = threading.Event()

    def __call__(self, point: str) -> os.statvfs_result:
        self.asked.append(point)
        if point.startswith(self._dead):
            self._released.wait(60)
        return SIZES

    def let_go(self) -> None:
        self._released.set()
        for thread in threads():
            thread.join(60)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("collector disk")]


@pytest.fixture
def dead_shares() -> Iterator[Dead]:
    """Servers that are gone."""
    dead = Dead("/mnt/")
    yield dead
    dead.let_go()


def many_shares(folder: Path, dead: Dead) -> Disk:
    (folder / "mounts").write_text(
        "/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /srv xfs rw 0 0\n"
        + "".join(f"nas:/{number} /mnt/{number:02} nfs4 rw 0 0\n" for number in range(30))
    )
    return Disk(DiskSettings(network=True), folder / "mounts", dead, deadline_s=1.0)


def test_outage_thirty_dead_shares_are_waited_for_once_together(tmp_path: Path, dead_shares: Dead) -> None:
    """Not one after another: the run would be lost at its timeout. In the run after that not at all."""
    collector = many_shares(tmp_path, dead_shares)
    started = time.monotonic()
    first = missing_parts(collector)
    took_s = time.monotonic() - started
    asked = list(dead_shares.asked)
    second = missing_parts(collector)

    assert took_s < 30 * 1.0
    assert 30 == len(first) == len(second)
    assert {"/", "/srv"} == set(dead_shares.asked[len(asked) :])


def test_outage_four_threads_hang_at_most_and_the_other_shares_are_said_to_be_not_asked(
    tmp_path: Path, dead_shares: Dead
) -> None:
    """Nothing ends a thread that hangs in the kernel, so there is an end to their number."""
    collector = many_shares(tmp_path, dead_shares)
    for _ in range(3):
        said = missing_parts(collector)

    assert 4 == len(threads())
    assert [4, 26] == [
        sum(why.startswith(beginning) for why in said.values())
        for beginning in ("does not answer", "was not asked")
    ]


def test_outage_dead_shares_do_not_keep_the_disks_from_being_told(tmp_path: Path, dead_shares: Dead) -> None:
    """In every run."""
    collector = many_shares(tmp_path, dead_shares)
    for _ in range(2):
        samples = collected(collector, allow_missing=True)
        assert {'"/"', '"/srv"'} == {
            series.partition("mount=")[2].partition(",")[0] for series in samples if "total" in series
        }


def test_shares_that_come_back_are_all_told(tmp_path: Path, dead_shares: Dead) -> None:
    """More of them than may be asked at once: the next is asked when one has answered."""
    collector = many_shares(tmp_path, dead_shares)
    missing_parts(collector)
    dead_shares.let_go()

    assert 32 == len([series for series in collected(collector) if "total" in series])
    assert [] == threads()


def test_a_mount_point_with_a_mark_that_unicode_calls_a_lines_end_is_one() -> None:
    """The kernel ends its lines with a line feed and nothing else."""
    (mount,) = parse_mounts("/dev/sda1 /srv/a\u2028b\rc ext4 rw 0 0\n")

    assert "/srv/a\u2028b\rc" == mount.point
