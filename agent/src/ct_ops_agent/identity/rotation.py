"""A key that is to follow the agent's key: the files, and the order that survives a crash.

``rotate_key.request``   somebody asked for it (``ct-ops-agent identity rotate-key``)
``agent_key.next.pem``   the new private key, written before anything is sent

From then on nobody knows which key the server holds until an answer is there: the reply on the stream,
or, after a crash or a lost reply, a Register that proves the *next* key. Known: it is promoted. Unknown:
the server never took it, and it is dropped; but not while the question may still be on its way to the server, over a
connection that is lost on this side only. Promotion:

1. ``agent_key.pub`` is removed: it is about the old key, and can be derived;
2. ``agent_key.next.pem`` is renamed to ``agent_key.pem``: from this moment the new key is the agent's;
3. ``agent_key.pub`` is written anew, and the request is removed.

A crash after 1 leaves the old pair, after 2 the new one, each with a public half that is derived; the
leaf of the old key is then noticed as such, and the agent registers again by its proven key.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.identity.files import load_file, sync_directory, write_file, write_new_file
from ct_ops_agent.identity.keystore import (
    PRIVATE_KEY_NAME,
    PUBLIC_KEY_NAME,
    KeyPair,
    parse_key_pair,
)

NEXT_KEY_NAME = "agent_key.next.pem"
REQUEST_NAME = "rotate_key.request"
_ON_ITS_WAY_S = 180.0
"""How long what was written to a connection may still arrive: a server notices within 80 s that nobody is there."""


class KeyRotation:
    """The rotation of one data directory's key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def is_requested(self) -> bool:
        """Whether somebody asked for a new key."""
        return (self._directory / REQUEST_NAME).exists()

    @property
    def is_under_way(self) -> bool:
        """Whether there is a next key, which the server may hold already."""
        return (self._directory / NEXT_KEY_NAME).exists()

    def request(self) -> None:
        """Ask for a new key.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        write_file(self._directory / REQUEST_NAME, "")

    def next_key(self) -> KeyPair | None:
        """Return the key that is to follow, ``None`` when there is none.

        Raises:
            DataDirectoryError: the file is unsafe or no key.
        """
        text = load_file(self._directory / NEXT_KEY_NAME)
        if text is None:
            return None
        keys = parse_key_pair(text)
        if keys is None:
            raise DataDirectoryError(f"{self._directory / NEXT_KEY_NAME} is no private key; remove it")
        return keys

    def keep_next(self, keys: KeyPair) -> None:
        """Write down the key that is to follow, before anybody hears of it.

        Raises:
            DataDirectoryError: there is one already, or the directory cannot be written.
        """
        write_new_file(self._directory / NEXT_KEY_NAME, keys.private_pem.reveal())

    def note_asked(self, at_unix: float) -> None:
        """Write down that the server is asked for the next key now.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        try:
            os.utime(self._directory / NEXT_KEY_NAME, (at_unix, at_unix))
        except OSError as error:
            raise DataDirectoryError(
                f"cannot write to {self._directory / NEXT_KEY_NAME}: {error.strerror}"
            ) from error

    def may_still_arrive(self, now_unix: float) -> bool:
        """Tell whether the server may yet hear that it was asked for the next key."""
        try:
            asked_unix = (self._directory / NEXT_KEY_NAME).stat().st_mtime
        except OSError:
            return False
        return 0 <= now_unix - asked_unix < _ON_ITS_WAY_S

    def promote(self, keys: KeyPair) -> None:
        """Make the next key the agent's: the server holds it.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        try:
            with suppress(FileNotFoundError):
                (self._directory / PUBLIC_KEY_NAME).unlink()
            (self._directory / NEXT_KEY_NAME).replace(self._directory / PRIVATE_KEY_NAME)
            sync_directory(self._directory)
        except OSError as error:
            raise DataDirectoryError(
                f"cannot replace the key in {self._directory}: {error.strerror}"
            ) from error
        write_file(self._directory / PUBLIC_KEY_NAME, keys.public_pem)
        self._forget_request()

    def drop(self) -> None:
        """Give the next key up: the server does not hold it."""
        with suppress(FileNotFoundError):
            (self._directory / NEXT_KEY_NAME).unlink()
        self._forget_request()

    def _forget_request(self) -> None:
        with suppress(FileNotFoundError):
            (self._directory / REQUEST_NAME).unlink()
