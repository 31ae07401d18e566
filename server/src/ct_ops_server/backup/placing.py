"""Files into their places: whole or not at all, private, and durable."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ct_ops_server.authority.files import sync_directory


def move(path: Path, to: Path) -> None:
    """Move a file or a folder, making the folder that it goes to."""
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.move(path, to)


def put(unpacked: Path, path: Path) -> None:
    """Give a file its place, whole or not at all, whatever file system that is on."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        try:
            os.link(unpacked, unfinished)
        except OSError:
            shutil.copyfile(unpacked, unfinished)
            unfinished.chmod(0o600)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_mark(mark: Path) -> None:
    """Put a mark that outlives a power cut."""
    mark.touch(mode=0o600)
    sync_directory(mark.parent)
