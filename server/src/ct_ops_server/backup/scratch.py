"""A folder for a copy of every secret, gone afterwards: also after a process that was killed, when the next one comes.

Its owner's only; inside the data directory, so what is moved from it into place is moved and not copied, or for a drill
among temporary files. Whoever uses one holds a lock on it; one without is left of a dead process.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".backup-"


@contextmanager
def scratch_folder(parent: Path, prefix: str = _PREFIX) -> Iterator[Path]:
    """Make an empty folder (0700) in another, and remove it with everything in it; so what dead processes left there."""
    for left in parent.glob(f"{prefix}*"):
        _remove_if_left(left)
    # Named before it is there: a signal that comes the moment after it was made finds what is to be removed.
    folder, lock = parent / f"{prefix}{secrets.token_hex(8)}", -1
    try:
        folder.mkdir(mode=0o700)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock >= 0:
            os.close(lock)


def _remove_if_left(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_uid == os.geteuid():  # among temporary files are those of others
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
