"""Disk usage: how full each file system on a device of this host is.

Asking a dead mount for its size blocks in the kernel for minutes. So each is asked in a thread of its own,
and one that is not back in time is said to hang and asked again only when that thread has returned: the
others are told in time, and threads do not pile up. Of a device that is mounted in several places (bind
mounts) the shortest path counts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
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


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a device is mounted."""

    device: str
    point: str
    kind: str


def parse_mounts(text: str) -> list[Mount]:
    r"""Return the lines of ``/proc/self/mounts``; a blank in a path is written as ``\040`` there."""
    lines = (line.split(" ") for line in text.splitlines())
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
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        """Prepare.

        Args:
            settings: its keys.
            mounts: the kernel's file.
            statvfs: asks a mount point for its size; may block for ever.
            deadline_s: how long each mount may take.
        """
        super().__init__(settings)
        self._mounts = mounts
        self._statvfs = statvfs
        self._deadline_s = deadline_s
        self._hanging: dict[str, _Question] = {}

    def collect(self) -> Iterator[Reading]:
        """Ask every file system for its size."""
        try:
            mounts = parse_mounts(self._mounts.read_text(errors="replace"))
        except OSError as error:
            raise CollectorError(f"{self._mounts} cannot be read: {error.strerror}") from error
        found = chosen(mounts, network=self.settings.network, ignore=self.settings.ignore)
        yield Sample("disk.file_systems", len(found))
        for mount in found:
            yield from self._ask(mount)

    def _ask(self, mount: Mount) -> Iterator[Reading]:
        question = self._hanging.pop(mount.point, None) or _Question(self._statvfs, mount.point)
        answer = question.wait(self._deadline_s)
        if question.hangs:
            self._hanging[mount.point] = question
            yield Missing(mount.point, "does not answer; is its device or its server gone?")
        elif isinstance(answer, OSError):
            yield Missing(mount.point, f"cannot be asked: {answer.strerror}")
        elif answer is not None:
            yield from _samples(mount, answer)


class _Question:
    """One mount point being asked, in a thread."""

    def __init__(self, statvfs: Callable[[str], os.statvfs_result], point: str) -> None:
        self._statvfs = statvfs
        self._point = point
        self._answer: os.statvfs_result | OSError | None = None
        self._thread = threading.Thread(target=self._run, name=f"collector disk {point}", daemon=True)
        self._thread.start()

    @property
    def hangs(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float) -> os.statvfs_result | OSError | None:
        self._thread.join(seconds)
        return self._answer

    def _run(self) -> None:
        try:
            self._answer = self._statvfs(self._point)
        except OSError as error:
            self._answer = error


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
