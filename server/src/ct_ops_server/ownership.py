"""The data directory has one owner at a time.

A running server holds ``server.lock``; a command that finds no server takes it for its own short life. The
kernel lets go of the lock when a process ends, however it ends, so there is nothing to clean up.

What root does here would leave files that the server's user cannot open, so a command that root runs
becomes the owner of the data directory first.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.files import open_private_directory

ADMIN_SOCKET = "admin.sock"
"""In the data directory of a running server: where commands ask it."""

_LOCK = "server.lock"
_RETRY_S = 0.05


class OwnershipError(Exception):
    """The data directory cannot be used by this process. ``str()`` says what to do."""


class DataDirBusyError(OwnershipError):
    """Another process of ours holds it."""


class DataDirForbiddenError(OwnershipError):
    """It belongs to another user."""


def become_owner(data_dir: Path) -> None:
    """As root, become the user that the data directory belongs to; as anybody else, be that user.

    Raises:
        DataDirForbiddenError: we are neither root nor its owner.
    """
    refuse_strangers(data_dir)
    if not data_dir.exists():
        return
    owner = data_dir.stat()
    if os.geteuid() == owner.st_uid:
        return
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def refuse_strangers(data_dir: Path) -> None:
    """Refuse who is neither root nor the owner of the data directory.

    Raises:
        DataDirForbiddenError: we are neither.
    """
    if data_dir.exists() and os.geteuid() not in {0, data_dir.stat().st_uid}:
        owner = _user_name(data_dir.stat().st_uid)
        raise DataDirForbiddenError(f"{data_dir} belongs to {owner}: run this as root or as that user")


@contextmanager
def owned(data_dir: Path, *, patience_s: float = 0.0) -> Iterator[int]:
    """Hold the data directory, making it when it is not there, and 0700 however it was found.

    The value is the lock's descriptor: a process that inherits it holds the data directory too.

    Raises:
        DataDirBusyError: another process still holds it after ``patience_s`` seconds.
        DataDirForbiddenError: it cannot be entered or written.
        AuthorityError: it is a symlink or no directory, or belongs to somebody else.
    """
    try:
        _make(data_dir)
        descriptor = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DataDirForbiddenError(
            f"{data_dir} cannot be used ({error.strerror}): set INGEST_DATA_DIR or its permissions"
        ) from error
    try:
        _lock(descriptor, data_dir, patience_s)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def one_at_a_time(data_dir: Path) -> Iterator[None]:
    """Keep the workers that share an owned data directory from changing its files at the same time; waits for its turn."""
    descriptor = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make(data_dir: Path) -> None:
    try:
        open_private_directory(data_dir)
    except AuthorityError as error:
        if isinstance(error.__cause__, PermissionError):
            raise error.__cause__ from error  # not permitted for this user, as everything below it
        raise


def _lock(descriptor: int, data_dir: Path, patience_s: float) -> None:
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                raise DataDirBusyError(
                    f"another ct-ops-server is using {data_dir}: stop it first, or set another INGEST_DATA_DIR"
                ) from None
            time.sleep(_RETRY_S)
        else:
            return


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
