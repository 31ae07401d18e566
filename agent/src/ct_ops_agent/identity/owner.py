"""Working in the data directory as the user it belongs to.

A command that root runs would leave files there that the service's user cannot open. So it acts as that user while it
is at them, and is root again for what only root may: writing to a stick that somebody else mounted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def acting_as_owner(directory: Path) -> Iterator[None]:
    """As root, act as the directory's owner while the block lasts; as anybody else, or in root's own, change nothing."""
    owner = directory.stat() if os.geteuid() == 0 and directory.is_dir() else None
    if owner is None or owner.st_uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
