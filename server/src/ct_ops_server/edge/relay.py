"""Forwarding bytes between a TLS connection and its upstream socket.

Two protocols, each the other's ``peer``. Bytes are handed on as they come; a side whose write buffer
fills up stops the *other* side's reading, in both directions, so that a slow reader costs one buffer
and no more. The TLS side reads nothing until an upstream is attached. When one side ends, what is
already written to the other is flushed before it is closed too.

The relay looks at no byte. Who may talk to which upstream is the front door's decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class RelaySide(asyncio.Protocol):
    """One side of a relay."""

    __slots__ = ("_closing", "_now", "last_byte_at", "peer", "transport")

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self.last_byte_at = self._now()
        self.peer: RelaySide | None = None
        self.transport: asyncio.Transport | None = None
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Note the time and hand the bytes on."""
        self.last_byte_at = self._now()
        peer = self.peer
        if peer is not None and peer.transport is not None:
            peer.transport.write(data)

    def eof_received(self) -> bool:
        """Close: neither TLS nor gRPC has a use for a half-open connection."""
        return False

    def pause_writing(self) -> None:
        """Our peer's bytes do not leave: let it read no more."""
        if self.peer is not None and self.peer.transport is not None and not self.peer.is_closing:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """Our peer may read again."""
        if self.peer is not None and self.peer.transport is not None and not self.peer.is_closing:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side, after what was written to it."""
        del exc  # resets are everyday business; the door counts connections, not their ways to end
        self._closing = True
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.close()

    @property
    def is_closing(self) -> bool:
        """Whether this side has ended or is about to."""
        return self._closing or self.transport is None or self.transport.is_closing()

    def close(self) -> None:
        """Flush, then close."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection now, losing what was not sent yet."""
        if self.transport is not None:
            self.transport.abort()


class TlsSide(RelaySide):
    """The side a client holds. Reads nothing before ``attach``."""

    __slots__ = ("on_lost", "opened_at")

    def __init__(self) -> None:
        super().__init__()
        self.on_lost: Callable[[], None] | None = None
        self.opened_at = self._now()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done. Nobody listens yet, so nothing may be read."""
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()

    def attach(self, upstream: UpstreamSide) -> bool:
        """Connect both sides and start reading. False: the client has left meanwhile."""
        if self.is_closing:
            return False
        assert self.transport is not None
        self.peer = upstream
        self.transport.resume_reading()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the upstream and tell the door."""
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    @property
    def has_unsent(self) -> bool:
        """Whether the upstream may still say something, or has and it has not left."""
        if self.peer is not None and not self.peer.is_closing:
            return True
        return self.transport is not None and self.transport.get_write_buffer_size() > 0

    def idle_s(self) -> float:
        """Return the seconds since a byte last went either way."""
        latest = self.last_byte_at if self.peer is None else max(self.last_byte_at, self.peer.last_byte_at)
        return self._now() - latest

    def age_s(self) -> float:
        """Return the seconds since the connection was accepted."""
        return self._now() - self.opened_at

    def abort(self) -> None:
        """Cut both sides now."""
        upstream = self.peer
        super().abort()
        if upstream is not None:
            upstream.abort()


class UpstreamSide(RelaySide):
    """The side that was dialled. Knows its client from the start: gRPC speaks first, at once."""

    __slots__ = ()

    def __init__(self, client: TlsSide) -> None:
        super().__init__()
        self.peer = client
