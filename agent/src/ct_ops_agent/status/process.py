"""Whether the daemon that wrote a report still lives.

A process number alone proves little: numbers are used again. Who lives holds the lock of its data
directory, and the kernel lists the locks (``/proc/locks``). They are read there, never tried: a try
would take the lock for a moment, and an agent that starts in that moment would find its directory in use.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_LOCKS = Path("/proc/locks")
_FLOCK = re.compile(r"FLOCK +\S+ +\S+ +(?P<pid>\d+) +[0-9a-f]+:[0-9a-f]+:(?P<inode>\d+) ")


def is_alive(pid: int, data_dir: Path, *, locks: Path = _LOCKS) -> bool:
    """Return whether a process lives and owns a data directory.

    Where the kernel lists no locks (another system, a jail), the process number has to do.
    """
    try:
        return pid in parse_owners(locks.read_text(encoding="ascii"), data_dir.stat().st_ino)
    except OSError:
        return _exists(pid)


def parse_owners(locks: str, inode: int) -> set[int]:
    """Return the numbers of the processes that hold an ``flock`` on a file of this inode number.

    The device is not compared: some file systems (btrfs) tell the kernel's list and us different ones,
    and a process number that fits as well is proof enough.
    """
    return {int(lock["pid"]) for lock in _FLOCK.finditer(locks) if int(lock["inode"]) == inode}


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True
