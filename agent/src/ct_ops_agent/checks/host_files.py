"""Files of the host that a check is told to read: regular ones, and not endlessly."""

from __future__ import annotations

import os
import stat

from ct_ops_agent.checks.verdict import reason


class UnreadableFileError(Exception):
    """``str()`` is a sentence that names the file."""


def read_host_file(path: str, max_bytes: int) -> bytes:
    """Return the content of a file.

    Raises:
        UnreadableFileError: it is not there, not ours to read, no regular file, or too large.
    """
    try:
        # Non-blocking: opening a pipe waits for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be opened: {reason(error)}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableFileError(f"{path} is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError as error:
            raise UnreadableFileError(f"{path} cannot be read: {reason(error)}") from error
    if len(content) > max_bytes:
        raise UnreadableFileError(f"{path} is larger than {max_bytes} bytes, too large for what it should be")
    return content
