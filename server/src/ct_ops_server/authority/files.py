"""Private files: born 0600, whole or not there at all, and never through a symlink.

A write goes to a temporary file in the same folder, is made durable, and only then gets its name;
then the folder is made durable too. So a crash leaves the old content or the new, nothing between.

* ``replace_private`` for what may change (a certificate that was issued again);
* ``create_private`` for what may never be overwritten (keys). Of two processes that start at once,
  one wins and the other reads the winner's file;
* ``load_private`` for files of ours, ``load_named`` for files the operator named.

In place of a file of ours a symlink is refused: whoever can place one could make us write
elsewhere, or read a key that is not ours.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ct_ops_server.authority.errors import AuthorityError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 1024 * 1024
"""No key, certificate chain or secret is longer; a longer file is somebody's mistake."""


def open_private_directory(path: Path) -> None:
    """Make ``path`` a directory that only its owner enters (0700), creating it and its parents.

    Raises:
        AuthorityError: it is a symlink, no directory, somebody else's, or cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except FileExistsError as error:
        raise AuthorityError(
            path, "is not a directory. Remove it or choose another INGEST_DATA_DIR."
        ) from error
    except OSError as error:
        raise AuthorityError(path, f"cannot be created ({error.strerror}).") from error
    if stat.S_ISLNK(found.st_mode):
        raise AuthorityError(path, "is a symlink. Set INGEST_DATA_DIR to the directory it points at.")
    if found.st_uid != os.geteuid():
        raise AuthorityError(
            path, f"belongs to user id {found.st_uid}. Run as that user, or change its owner."
        )
    if found.st_mode & 0o077:
        path.chmod(0o700)


def load_private(path: Path) -> bytes | None:
    """Return the content of a file of ours, None when there is none. A loose mode is tightened to 0600.

    Raises:
        AuthorityError: it is a symlink, unreadable, no regular file, or longer than ``MAX_BYTES``.
    """
    return _load(path, os.O_NOFOLLOW)


def load_named(path: Path) -> bytes | None:
    """Return the content of a file that the operator named, None when there is none.

    Symlinks are followed and the mode is left alone: certificates of ACME clients and mounted
    secrets are symlinks, and their owner knows why.

    Raises:
        AuthorityError: it is unreadable, no regular file, or longer than ``MAX_BYTES``.
    """
    return _load(path, 0)


def replace_private(path: Path, content: bytes) -> None:
    """Give ``path`` this content with mode 0600, durably, whatever it held before.

    Raises:
        AuthorityError: it is a symlink, or cannot be written.
    """
    with _durable_temporary(path, content) as temporary:
        if path.is_symlink():
            raise AuthorityError(path, "is a symlink. Remove it: this file is replaced by its own name.")
        temporary.replace(path)


def create_private(path: Path, content: bytes) -> bool:
    """Create ``path`` with this content and mode 0600, durably. False: it exists, and was left alone.

    Raises:
        AuthorityError: it is a symlink, or cannot be written.
    """
    with _durable_temporary(path, content) as temporary:
        try:
            os.link(temporary, path)  # unlike a rename, a link never replaces
        except FileExistsError:
            if path.is_symlink():  # found empty by whoever called, so it points nowhere
                raise AuthorityError(
                    path, "is a symlink to nothing. Remove it, or mount what it names."
                ) from None
            return False
        return True


def erase(path: Path) -> None:
    """Remove a file of ours, durably; it may be gone already.

    Its content was encrypted. Where a disk keeps old blocks, and in backups, it stays what it was there.

    Raises:
        AuthorityError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise AuthorityError(path, f"cannot be removed ({error.strerror}).") from error


@contextmanager
def _durable_temporary(path: Path, content: bytes) -> Iterator[Path]:
    """A synced temporary file beside ``path``; removed at the end unless it was renamed."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600 from birth
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise AuthorityError(path, f"cannot be written ({error.strerror}).") from error


def sync_directory(path: Path) -> None:
    """Make durable which names a directory has. May raise ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(path: Path, no_follow: int) -> bytes | None:
    try:
        # O_NONBLOCK: a FIFO in this place must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | no_follow)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise AuthorityError(path, "is no regular file.")
        if no_follow and found.st_uid == os.geteuid() and found.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise AuthorityError(path, f"is longer than {MAX_BYTES} bytes: this is not the file that was meant.")
    return content


def _unreadable(path: Path, error: OSError) -> AuthorityError:
    if path.is_symlink():
        return AuthorityError(path, "is a symlink. Put the file itself here, or name its real path.")
    return AuthorityError(path, f"cannot be read ({error.strerror}). Make it readable for this user.")
