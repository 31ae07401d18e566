"""The requests of this host that were carried away and wait for a reply: their ids, in ``carried_request.json``.

A reply is believed only if it answers one of them, with the key that asked. Whoever lost the stick makes another
request: the last few ids are kept, and all are forgotten when one was answered.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.identity.files import load_file, sync_directory, write_file

CARRIED_REQUEST_NAME = "carried_request.json"
_MOST_KEPT = 8


@dataclass(frozen=True)
class OpenRequests:
    """What waits for a reply."""

    key_id: str
    """Of the key that asked."""

    ids: tuple[str, ...]
    """Oldest first."""


_NONE = OpenRequests("", ())


def load_open_requests(directory: Path) -> OpenRequests:
    """Return what waits for a reply; nothing when the file is damaged, for a new request is made easily.

    Raises:
        DataDirectoryError: the file is unsafe or unreadable.
    """
    text = load_file(directory / CARRIED_REQUEST_NAME)
    try:
        found = json.loads(text or "{}")
        return OpenRequests(str(found["key_id"]), tuple(map(str, found["ids"])))
    except (ValueError, KeyError, TypeError):
        return _NONE


def keep_open_request(directory: Path, key_id: str, request_id: str) -> None:
    """Write down a request before it is carried away.

    Raises:
        DataDirectoryError: the directory cannot be written.
    """
    before = load_open_requests(directory)
    ids = before.ids if before.key_id == key_id else ()
    document = {"key_id": key_id, "ids": [*ids, request_id][-_MOST_KEPT:]}
    write_file(directory / CARRIED_REQUEST_NAME, json.dumps(document) + "\n")


def forget_open_requests(directory: Path) -> None:
    """Forget them: one was answered.

    Raises:
        DataDirectoryError: the directory cannot be written.
    """
    try:
        with suppress(FileNotFoundError):
            (directory / CARRIED_REQUEST_NAME).unlink()
        sync_directory(directory)
    except OSError as error:
        raise DataDirectoryError(
            f"cannot remove {CARRIED_REQUEST_NAME} in {directory}: {error.strerror}"
        ) from error
