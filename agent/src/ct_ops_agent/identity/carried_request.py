"""The requests of this host that were carried away and wait for a reply: their ids, in ``carried_request.json``.

A reply is believed only if it answers one of them, with the key that asked. Whoever lost the stick makes another
request: the last few ids are kept, and all are forgotten when one was answered.

A reply that comes while an agent runs, and waits for an identity, is left for it in ``carried_reply.json``.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.identity.files import load_file, sync_directory, write_file

CARRIED_REQUEST_NAME = "carried_request.json"
CARRIED_REPLY_NAME = "carried_reply.json"
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
    _remove(directory, CARRIED_REQUEST_NAME)


def leave_reply(directory: Path, text: str) -> None:
    """Leave a reply for the agent that runs here.

    Raises:
        DataDirectoryError: the directory cannot be written.
    """
    write_file(directory / CARRIED_REPLY_NAME, text)


def left_reply(directory: Path) -> str | None:
    """Return the reply that was left, ``None`` when there is none.

    Raises:
        DataDirectoryError: the file is unsafe or unreadable.
    """
    return load_file(directory / CARRIED_REPLY_NAME)


def remove_left_reply(directory: Path) -> None:
    """Remove it: it was installed, or cannot be.

    Raises:
        DataDirectoryError: the directory cannot be written.
    """
    _remove(directory, CARRIED_REPLY_NAME)


def _remove(directory: Path, name: str) -> None:
    try:
        with suppress(FileNotFoundError):
            (directory / name).unlink()
        sync_directory(directory)
    except OSError as error:
        raise DataDirectoryError(f"cannot remove {name} in {directory}: {error.strerror}") from error
