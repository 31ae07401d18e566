"""What every HTTP request shares, whatever its app: an id in its answer, a counter, a log line when it is refused.

The line of a refusal carries the id that the client was told (``request_ids``). Visitors without a name may ask for
what is not there as often as they like, so lines are few: ``RefusalLines`` lets so many through in a window and
says at the beginning of the next one how many it kept back. The counter counts them all.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ct_ops_server.edge import request_ids

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_log = logging.getLogger("ct_ops_server.http")
_REFUSED = 400
_WINDOW_S = 10.0
_LINES_A_WINDOW = 20
_LONGEST_PATH = 200


class RefusalLines:
    """Logs refused requests, a few in a window."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._began_s = now_s()
        self._seen = 0

    def refused(self, what: str, status: int) -> None:
        """Log the refusal, or count it for a later line."""
        if self._now_s() - self._began_s >= _WINDOW_S:
            self._begin()
        self._seen += 1
        if self._seen <= _LINES_A_WINDOW:
            _log.info("%s refused with %d", what, status)

    def _begin(self) -> None:
        if (kept_back := self._seen - _LINES_A_WINDOW) > 0:
            _log.info("%d more HTTP requests were refused before this one", kept_back)
        self._began_s, self._seen = self._now_s(), 0


class ObservedApp:
    """An ASGI app around another one."""

    def __init__(
        self,
        app: Any,
        *,
        name: str,
        lines: RefusalLines,
        answered: Callable[[str, int], None] = lambda _app, _status: None,
    ) -> None:
        """Prepare.

        Args:
            app: what answers.
            name: what log and metrics call it.
            lines: where refusals are logged.
            answered: told of every answer: the name and the status.
        """
        self._app: App = app
        self._name = name
        self._lines = lines
        self._answered = answered

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False
        with request_ids.request_id() as drawn:

            async def observed(message: Message) -> None:
                nonlocal has_begun
                if message["type"] == "http.response.start":
                    has_begun = True
                    message["headers"] = [*message.get("headers", ()), (request_ids.HEADER, drawn.encode())]
                    self._note(scope, message["status"])
                await send(message)

            try:
                await self._app(scope, receive, observed)
            except Exception:
                # An app that failed has answered 500 by now; its traceback belongs to the request's lines.
                if not has_begun:
                    raise
                _log.exception("%s failed", self._what(scope))

    def _note(self, scope: Message, status: int) -> None:
        self._answered(self._name, status)
        if status >= _REFUSED:
            self._lines.refused(self._what(scope), status)

    def _what(self, scope: Message) -> str:
        client = (scope.get("client") or ("the admin socket",))[0]
        return f"{scope['method']} {printable(scope['path'])} of {client} ({self._name})"


def printable(path: str) -> str:
    """Return a path that may stand in a line: no control characters, and not too long."""
    return "".join(each if each.isprintable() else "?" for each in path[:_LONGEST_PATH])
