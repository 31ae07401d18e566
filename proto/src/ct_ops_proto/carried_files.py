"""Files on a stick: read with a limit, written so that nobody else reads them and nothing else is overwritten.

* Read: at most so many bytes, of a regular file (a link may lead to one; whoever types the path decides that).
* Written: born 0600 under a temporary name in the same folder, synced, renamed. A symbolic link at the path is
  refused rather than followed or replaced, because its owner may be somebody who waits for a command of root's.
  A stick's file system may know no permissions (FAT): ``Written.is_open_to_others`` says so.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_OTHERS = 0o077


class CarriedFileError(Exception):
    """A file that cannot be read or written. ``str()`` is a sentence that says what to do."""


@dataclass(frozen=True)
class Written:
    """What became of a file."""

    path: Path
    is_open_to_others: bool
    """The file system keeps no permissions: everybody on this machine can read it there."""


def read_carried(path: Path, *, at_most: int) -> bytes:
    """Return a file's content, and one byte more than the limit of a file that is larger.

    Raises:
        CarriedFileError: there is none, or it is no regular file.
    """
    try:
        # Non-blocking, because opening a pipe would wait for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CarriedFileError(f"{path} is no regular file; give the file itself")
            return file.read(at_most + 1)
    except OSError as error:
        raise CarriedFileError(f"cannot read {path}: {error.strerror}; check the path") from error


def check_place(path: Path) -> None:
    """Look whether a file can be written here, before something is done that it is to hold.

    Raises:
        CarriedFileError: something else has that name, or the folder is not there or may not be written.
    """
    _refuse_what_is_no_file(path)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise CarriedFileError(f"cannot write into {path.parent}: choose another place, or mount the stick")


def write_carried(path: Path, text: str) -> Written:
    """Write a file for its owner alone. A regular file of that name is replaced as a whole.

    Raises:
        CarriedFileError: something else has that name, or the file cannot be written.
    """
    _refuse_what_is_no_file(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        is_open = _write_new(temporary, text)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise CarriedFileError(f"cannot write {path}: {error.strerror}; choose another place") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return Written(path, is_open)


def _refuse_what_is_no_file(path: Path) -> None:
    try:
        found = path.lstat()
    except OSError:
        return  # nothing there; or the writing itself will say why it cannot be
    if stat.S_ISLNK(found.st_mode):
        raise CarriedFileError(f"{path} is a symbolic link, which is not followed; give the real path")
    if not stat.S_ISREG(found.st_mode):
        raise CarriedFileError(f"{path} is no regular file; give the name of the file to write")


def _write_new(path: Path, text: str) -> bool:
    """Write and return whether others can read it."""
    with suppress(FileNotFoundError):
        path.unlink()  # left behind by a crash of a process with our number
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        return bool(os.fstat(file.fileno()).st_mode & _OTHERS)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some file systems of sticks cannot; the file itself is synced
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
