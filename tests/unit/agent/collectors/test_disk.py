"""Disk usage: one mount a device, and a dead one that stops nobody."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
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
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("collector disk"):
            thread.join(20)
    third = collected(collector)

    assert {"/srv/with blank"} == first.keys() == second.keys()
    assert 1 == asked.count("/srv/with blank")
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


def test_the_run_is_short_while_a_mount_is_dead(tmp_path: Path) -> None:
    """Its deadline, once; not once more for every run that it has been dead."""
    release = threading.Event()

    def statvfs(_: str) -> os.statvfs_result:
        release.wait(20)
        return SIZES

    started = time.monotonic()
    missing_parts(disk(tmp_path, statvfs))
    release.set()

    assert 10 > time.monotonic() - started
