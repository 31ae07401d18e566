"""Files of the data directory: written whole or not at all, read with suspicion.

* A file is born 0600 under a temporary name in the same folder, synced, renamed over the old one,
  and the folder is synced: after a power cut there is the old file or the new one.
* A symbolic link is refused, for the directory and for each file: whoever can plant one there could
  have the agent, which often runs as root, read or replace something else.
* A secret that others could read is closed again with a warning; an installer of an existing agent
  makes the directory 0755.
* One agent per directory: the directory itself is locked for as long as the agent runs.
"""

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ct_ops_agent.errors import DataDirectoryError, DirectoryInUseError

_log = logging.getLogger(__name__)

_PRIVATE_FILE = 0o600
_PUBLIC_FILE = 0o644
_PRIVATE_DIRECTORY = 0o700
_OTHERS = 0o077
_MAX_BYTES = 1024 * 1024
"""No file of ours comes near it; a larger one is a mistake."""


@contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Own the data directory: make it if need be, close it to others, keep every other agent out.

    Raises:
        DataDirectoryError: it is a symbolic link or no directory, cannot be made, or is in use.
    """
    descriptor = _open_directory(directory)
    try:
        _close_to_others(descriptor, directory, _PRIVATE_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DirectoryInUseError(
                f"{directory} is in use by another ct-ops-agent; stop that one (systemctl stop ct-ops-agent) "
                "or give this one a data directory of its own"
            ) from error
        yield
    finally:
        os.close(descriptor)


def load_file(path: Path) -> str | None:
    """Return the text of a private file, ``None`` when there is none.

    Raises:
        DataDirectoryError: a symbolic link, no regular file, not readable, or no text.
    """
    return _load(path, private=True)


def load_public_file(path: Path) -> str | None:
    """Return the text of a file that others may read, as :func:`load_file` does."""
    return _load(path, private=False)


def _load(path: Path, *, private: bool) -> str | None:
    try:
        # Non-blocking, because opening a pipe would wait for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DataDirectoryError(f"{path} is no regular file; move it away")
        if private:
            _close_to_others(descriptor, path, _PRIVATE_FILE)
        return _as_text(path, os.read(descriptor, _MAX_BYTES))
    finally:
        os.close(descriptor)


def write_file(path: Path, text: str) -> None:
    """Replace a file as a whole, mode 0600, durable on return.

    Raises:
        DataDirectoryError: the disk is full, read-only, or the directory is not ours.
    """
    _replace(path, text, _PRIVATE_FILE)


def write_public_file(path: Path, text: str) -> None:
    """Replace a file that others may read, as :func:`write_file` does, mode 0644."""
    _replace(path, text, _PUBLIC_FILE)


def _replace(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        _write_new(temporary, text, mode)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise DataDirectoryError(f"cannot write {path}: {error.strerror}") from error


def write_new_file(path: Path, text: str) -> None:
    """Write a file that must not exist yet: a private key is never replaced.

    Raises:
        DataDirectoryError: the file exists, or writing fails as in :func:`write_file`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        _write_new(temporary, text)
        path.hardlink_to(temporary)  # unlike a rename, fails when the name is taken
        sync_directory(path.parent)
    except OSError as error:
        raise DataDirectoryError(f"cannot create {path}: {error.strerror}") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _write_new(path: Path, text: str, mode: int = _PRIVATE_FILE) -> None:
    with suppress(FileNotFoundError):
        path.unlink()  # left behind by a crash of a process with our number
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE_FILE
    )
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def sync_directory(directory: Path) -> None:
    """Make renames and removals in a directory durable. Raises ``OSError``."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_directory(directory: Path) -> int:
    try:
        directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(directory, error) from error


def _close_to_others(descriptor: int, path: Path, mode: int) -> None:
    found = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if not found & _OTHERS:
        return
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        raise DataDirectoryError(
            f"{path} can be read by others (mode {found:04o}) and belongs to another user: chown it to the agent's user"
        ) from error
    _log.warning("%s could be read by others (mode %04o); it is %04o now", path, found, mode)


def _as_text(path: Path, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DataDirectoryError(f"{path} is no text file; move it away") from error


def _refused(path: Path, error: OSError) -> DataDirectoryError:
    # O_NOFOLLOW answers ELOOP for a link; with O_DIRECTORY it is ENOTDIR.
    if error.errno == errno.ELOOP or path.is_symlink():
        return DataDirectoryError(
            f"{path} is a symbolic link, which is not followed; put the real path in agent.data_dir"
        )
    return DataDirectoryError(f"cannot open {path}: {error.strerror}")
