"""A number for every RPC and every HTTP request, so that what a peer was told can be found in the log.

It is drawn by this server, never taken from a peer, who could repeat one of another. It lives in a context
variable: whatever is logged on behalf of a request carries its id, also from tasks and threads that it started
(``cli.logs`` prints it). The peer sees it beside a refusal: ``ct-ops-request-id`` in gRPC's trailing metadata,
``X-Request-Id`` in HTTP.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

METADATA_KEY: Final = "ct-ops-request-id"
HEADER: Final = b"x-request-id"
FIELDS: Final = "fields"
"""The ``extra`` of a log line with what JSON shows beside the message; nothing masks it, so no secret goes there."""

_BYTES = 8

_current: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """Return the id of the request that is being served here; empty: none is."""
    return _current.get()


def refused_fields(method: str, reason: str) -> dict[str, dict[str, str]]:
    """Return the ``extra`` of a line about a refusal: its method and the reason that the peer was told."""
    return {FIELDS: {"method": method, "reason": reason}}


@contextmanager
def request_id() -> Iterator[str]:
    """Serve a request under an id of its own, for as long as the block lasts."""
    drawn = secrets.token_hex(_BYTES)
    token = _current.set(drawn)
    try:
        yield drawn
    finally:
        _current.reset(token)
