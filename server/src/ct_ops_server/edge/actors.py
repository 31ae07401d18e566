"""Whose word a request of the admin API is: who is connected, as the kernel knows it, and who that says to be.

A command says the name of its user, and who that was before sudo: its own word. What is recorded begins with what the kernel
says of the connection, ``root [uid 0], as root (sudo by anna)``; the name that was said is left out when it is the same.
Where a command opens the installation itself there is no connection, and its word is all there is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from ct_ops_server.edge.peer import Peer

_Scope = MutableMapping[str, Any]
_App = Callable[[_Scope, Any, Any], Awaitable[None]]
_PREFIX = "uid:"
_LONGEST = 200

_peer: ContextVar[Peer | None] = ContextVar("peer", default=None)


class PeerNamed:
    """The admin app on a socket: what it is asked is the word of whoever is connected."""

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: Any, send: Any) -> None:
        """Answer a request."""
        before = _peer.set(peer_from(scope.get("client")))
        try:
            await self._app(scope, receive, send)
        finally:
            _peer.reset(before)


def client_for(peer: Peer) -> tuple[str, int]:
    """Return the client of a request, as ASGI has it, that ``peer_from`` understands."""
    return f"{_PREFIX}{peer.name}", peer.uid


def peer_from(client: object) -> Peer | None:
    """Return who that is; None when it is nobody of this host."""
    match client:
        case (str(name), int(uid)) if name.startswith(_PREFIX):
            return Peer(uid, name.removeprefix(_PREFIX))
    return None


def actor_of(peer: Peer | None, said: str) -> str:
    """Return what is recorded of a request in which somebody says to be ``said``."""
    if peer is None:
        return said
    known = f"{peer.name} [uid {peer.uid}]" if peer.name else f"[uid {peer.uid}]"
    return known if said == peer.name else f"{known}, as {said}"


Actor = Annotated[
    str,
    Field(min_length=1, max_length=_LONGEST),
    AfterValidator(lambda said: actor_of(_peer.get(), said)),
]
"""The actor in the body of a request."""
