"""Enrolment on the store in memory, with real certificates and tokens, for state machines.

``ENROLMENT`` is made once: keys are expensive, stores are not. Nothing in it ever waits, so a machine, which
knows no event loop, gets results by ``result_of``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Coroutine
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from ct_ops_server.authority import files
from ct_ops_server.authority.agent_token import TokenSigner, TokenVerifier
from ct_ops_server.authority.ca import load_or_create_authority
from ct_ops_server.authority.jwks import load_or_create_signing_key
from ct_ops_server.authority.sealing import load_or_create_secret
from ct_ops_server.enrolment.service import Enrolment
from fakes.memory_store import MemoryStore

START = datetime(2030, 1, 2, tzinfo=UTC)
R = TypeVar("R")


class MemoryEnrolment:
    """An authority and a signing key, that open enrolments on any store."""

    def __init__(self, folder: Path) -> None:
        files.open_private_directory(folder / "server")
        secret = load_or_create_secret(folder / "secret")
        self._authority = load_or_create_authority(folder / "server", secret, now=START)
        self._key = load_or_create_signing_key(
            configured=None, existing=folder / "none", data_dir=folder / "server", secret=secret
        )
        self.verifier = TokenVerifier([self._key.public_key])

    def open(self, store: MemoryStore, clock: list[datetime]) -> Enrolment:
        """Return the flow on this store, by the clock's first entry."""
        ids = count(1)
        return Enrolment(
            store,
            authority=self._authority,
            signer=TokenSigner(self._key),
            installation_id="installation",
            now=lambda: clock[0],
            new_agent_id=lambda: f"a{next(ids)}",
        )


def result_of(coroutine: Coroutine[Any, Any, R]) -> R:
    """Return what a coroutine returns that never waits, as those of the store in memory never do."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    raise AssertionError("it waits for something")


_FOLDER = tempfile.TemporaryDirectory(prefix="ct-ops-machine-")
ENROLMENT = MemoryEnrolment(Path(_FOLDER.name))
