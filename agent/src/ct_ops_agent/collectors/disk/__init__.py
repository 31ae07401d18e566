"""Disk usage: how full each file system on a device of this host is.

Asking a dead mount for its size blocks in the kernel for minutes, so they are asked at a desk of `questions`,
which always is back in time. Devices and shares have a desk each: servers that are gone, however many shares
they had, are no reason to say nothing of the disks. Of a device that is mounted in several places (bind mounts)
the shortest path counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

from msgspec import Meta, field

from ct_ops_agent.collector import (
    About,
    Collector,
    CollectorError,
    Missing,
    Reading,
    Sample,
    SampleDoc,
    Settings,
)
from ct_ops_agent.collectors.disk.questions import Answer, Ask, Desk, Silence

_ON_DEVICES = frozenset(
    (
        "bcachefs",
        "btrfs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "nilfs2",
        "ntfs3",
        "reiserfs",
        "ufs",
        "vfat",
        "xfs",
        "zfs",
    )
)
_OF_NETWORKS = frozenset(
    ("9p", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "virtiofs")
)
_DEADLINE_S = 2.0
_MOST_DEVICES = 3
_MOST_SHARES = 4
"""How many may hang at once; together fewer threads than a collector may leave behind."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a device is mounted."""

    device: str
    point: str
    kind: str


def parse_mounts(text: str) -> list[Mount]:
    r"""Return the lines of ``/proc/self/mounts``; a blank in a path is written as ``\040`` there."""
    lines = (line.split(" ") for line in text.split("\n"))
    return [Mount(_unescape(words[0]), _unescape(words[1]), words[2]) for words in lines if len(words) >= 3]


def chosen(mounts: list[Mount], *, network: bool, ignore: list[str]) -> list[Mount]:
    """Return one mount for each device that is worth telling."""
    kinds = _ON_DEVICES | _OF_NETWORKS if network else _ON_DEVICES
    shortest: dict[str, Mount] = {}
    for mount in mounts:
        known = shortest.get(mount.device)
        wanted = mount.kind in kinds and not any(fnmatch(mount.point, pattern) for pattern in ignore)
        if wanted and (known is None or len(mount.point) < len(known.point)):
            shortest[mount.device] = mount
    return sorted(shortest.values(), key=lambda mount: mount.point)


class DiskSettings(Settings, frozen=True):
    """Keys of ``[collectors.disk]``."""

    network: Annotated[bool, Meta(description="Whether shares of other hosts (NFS, SMB) count too.")] = False
    ignore: Annotated[list[str], Meta(description="Mount points to leave out, with * and ?.")] = field(
        default_factory=list
    )


class Disk(Collector[DiskSettings]):
    """Collector ``disk``."""

    about = About(
        name="disk",
        summary="How full each file system is.",
        reads="`/proc/self/mounts`, and statvfs(3) of each mount point",
        cost="0.4 ms a run, and 0.1 ms for each file system",
        interval=timedelta(minutes=5),
        timeout=timedelta(seconds=30),
        samples=(
            SampleDoc("disk.total_bytes", "bytes", "size", labels=("device", "mount", "type")),
            SampleDoc(
                "disk.free_bytes", "bytes", "left for ordinary users", labels=("device", "mount", "type")
            ),
            SampleDoc(
                "disk.used_percent", "percent", "as df(1) counts it", labels=("device", "mount", "type")
            ),
            SampleDoc(
                "disk.inodes_used_percent", "percent", "of its files", labels=("device", "mount", "type")
            ),
            SampleDoc("disk.file_systems", "", "how many are told"),
        ),
    )
    settings_type = DiskSettings

    def __init__(
        self,
        settings: DiskSettings,
        mounts: Path = Path("/proc/self/mounts"),
        statvfs: Ask = os.statvfs,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        """Prepare.

        Args:
            settings: its keys.
            mounts: the kernel's file.
            statvfs: asks a mount point for its size; may block for ever.
            deadline_s: how long all devices may take, and all shares.
        """
        super().__init__(settings)
        self._mounts = mounts
        self._desks = (
            (_ON_DEVICES, Desk(statvfs, _MOST_DEVICES, deadline_s)),
            (_OF_NETWORKS, Desk(statvfs, _MOST_SHARES, deadline_s)),
        )

    def collect(self) -> Iterator[Reading]:
        """Ask every file system for its size."""
        try:
            mounts = parse_mounts(self._mounts.read_bytes().decode(errors="replace"))
        except OSError as error:
            raise CollectorError(f"{self._mounts} cannot be read: {error.strerror}") from error
        found = chosen(mounts, network=self.settings.network, ignore=self.settings.ignore)
        yield Sample("disk.file_systems", len(found))
        for kinds, desk in self._desks:
            mounts = [mount for mount in found if mount.kind in kinds]
            answers = desk.answers(mount.point for mount in mounts)
            for mount in mounts:
                yield from _told(mount, answers[mount.point])


def _told(mount: Mount, answer: Answer) -> Iterator[Reading]:
    if isinstance(answer, Silence):
        yield Missing(mount.point, answer.value)
    elif isinstance(answer, OSError):
        yield Missing(mount.point, f"cannot be asked: {answer.strerror}")
    else:
        yield from _samples(mount, answer)


def _samples(mount: Mount, answer: os.statvfs_result) -> Iterator[Reading]:
    labels = {"device": mount.device, "mount": mount.point, "type": mount.kind}
    used = answer.f_blocks - answer.f_bfree
    usable = used + answer.f_bavail
    yield Sample("disk.total_bytes", answer.f_blocks * answer.f_frsize, "bytes", labels)
    yield Sample("disk.free_bytes", answer.f_bavail * answer.f_frsize, "bytes", labels)
    if usable:
        yield Sample("disk.used_percent", 100.0 * used / usable, "percent", labels)
    if answer.f_files:
        share = 100.0 * (answer.f_files - answer.f_ffree) / answer.f_files
        yield Sample("disk.inodes_used_percent", share, "percent", labels)


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
