"""Where tests keep their files: in memory where the host has a folder that is.

Tests make databases by the thousand and most wait for the disk to have them; what they are about is what processes do,
never whether a disk keeps its word.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

_FOLDER = Path("/dev/shm")
_ROOM_BYTES = 6 * 2**30
"""Twenty times what the tests of four processes keep at once."""


def memory_folder() -> Path | None:
    """Return a folder in memory; None where there is none, programs may not run in it, or room is short."""
    try:
        found = os.statvfs(_FOLDER)
    except OSError:
        return None
    room = min(found.f_bavail * found.f_frsize, psutil.virtual_memory().available)
    is_closed = bool(found.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)) or not os.access(
        _FOLDER, os.W_OK | os.X_OK
    )
    return None if is_closed or room < _ROOM_BYTES else _FOLDER
