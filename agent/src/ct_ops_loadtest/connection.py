"""One TLS connection of a virtual agent, and the RPCs on it.

TLS is ended here over memory, not by asyncio's own layer, whose buffers are larger than all the rest of a virtual agent. An
agent keeps its context (``tls.py``) for as long as it lives: to read key and leaf again costs more than a handshake.

A connection can be made slow, as hosts on bad lines are: it then sends so many bytes a second, and reads when it is told to.

Errors are an ``RpcError`` with gRPC's status, whatever went wrong: nobody listens, the handshake fails, the stream is refused
or breaks off.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from ct_ops_loadtest.h2_format import BrokenPeerError
from ct_ops_loadtest.http2 import DEADLINE_EXCEEDED, OK, UNAVAILABLE, Ending, Http2Client

_READ = 64 * 1024
_DIAL_S = 60.0
_CALL_S = 60.0
_DRIP_S = 0.1
"""How often a slow connection sends a piece."""
CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


class RpcError(Exception):
    """An RPC did not end well. ``str()`` is what failures of one sort have in common."""

    def __init__(self, ending: Ending) -> None:
        name = CODES[ending.code] if ending.code < len(CODES) else str(ending.code)
        super().__init__(f"{name}: {ending.text}")
        self.code = name
        self.metadata = dict(ending.metadata)


class Connection(asyncio.Protocol):
    """A connection. Make it with ``dial``."""

    def __init__(
        self, context: ssl.SSLContext, server: Server, shaken: asyncio.Future[None], bytes_per_s: float
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server.host)
        self.http2 = Http2Client(server.authority)
        self._transport: asyncio.Transport | None = None
        self._shaken: asyncio.Future[None] | None = shaken
        """Until TLS stands."""
        self._pumping = False
        self._bytes_per_s = bytes_per_s
        self._held_back = bytearray()
        self.lost_by = ""
        """Why it is gone; empty while it is there."""

    async def call(
        self, path: str, messages: Sequence[bytes], *, metadata: Sequence[tuple[str, str]] = ()
    ) -> bytes:
        """Send the messages, half-close, and return the one message of the answer.

        Raises:
            RpcError: it was refused.
        """
        answer = Answer()
        number = self.open(path, metadata, answer.take, answer.end)
        try:
            for message in messages:
                self.http2.send(number, message)
            self.http2.half_close(number)
            self.flush()
            async with asyncio.timeout(_CALL_S):
                return await answer.message()
        except TimeoutError as error:
            raise RpcError(Ending(DEADLINE_EXCEEDED, f"no answer within {_CALL_S:g} s")) from error
        finally:
            self.http2.cancel(number)  # does nothing when it has ended
            self.flush()

    def open(
        self,
        path: str,
        metadata: Sequence[tuple[str, str]],
        on_message: Callable[[bytes], None],
        on_end: Callable[[Ending], None],
    ) -> int:
        """Begin a stream; return its number.

        Raises:
            RpcError: the connection is lost.
        """
        if self.lost_by:
            raise RpcError(Ending(UNAVAILABLE, self.lost_by))
        return self.http2.open(path, metadata, on_message, on_end)

    def close(self, text: str = "closed by the load test") -> None:
        """Cut the connection; whatever is open on it ends."""
        self._lose(text)

    def finish(self) -> None:
        """Send what waits, and close."""
        self.lost_by = self.lost_by or "finished"
        if self._transport is not None:
            self._transport.close()

    def flush(self) -> None:
        """Send what waits."""
        if self._shaken is None and not self._pumping and self._transport is not None:
            self._write(self.http2.to_send())

    def pause(self) -> None:
        """Read nothing any more: what the server sends waits in its own socket."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # ---- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        self._shake()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._incoming.write(data)
        if self._shaken is not None:
            self._shake()
        if self._shaken is None:
            self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        """End whatever is open."""
        self._lose(str(exc) if exc else "the server closed the connection")

    # ---- within ----------------------------------------------------------------------------------

    def _shake(self) -> None:
        waiting = self._shaken
        if waiting is None or self._transport is None:
            return
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._transport.write(self._outgoing.read())
            return
        except ssl.SSLError as error:
            self._lose(f"TLS handshake failed: {error}")
            return
        if self._tls.selected_alpn_protocol() != "h2":
            self._lose("the server does not offer HTTP/2 on this port")
            return
        self._shaken = None
        self._write(self.http2.to_send())
        if not waiting.done():
            waiting.set_result(None)

    def _read(self) -> None:
        self._pumping = True
        try:
            while True:
                data = self._tls.read(_READ)
                if not data:
                    self._lose("the server closed the connection")
                    return
                self.http2.received(data)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, BrokenPeerError) as error:
            self._lose(str(error))
            return
        finally:
            self._pumping = False
        self.flush()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._tls.write(data)
            self._send(self._outgoing.read())

    def _send(self, data: bytes) -> None:
        if self._transport is None:
            return
        if not self._bytes_per_s:
            self._transport.write(data)
            return
        begins = not self._held_back
        self._held_back += data
        if begins:
            self._drip()

    def _drip(self) -> None:
        """Send a little of what is held back, and the rest later."""
        if self.lost_by or self._transport is None:
            return
        piece = max(1, int(self._bytes_per_s * _DRIP_S))
        self._transport.write(bytes(self._held_back[:piece]))
        del self._held_back[:piece]
        if self._held_back:
            asyncio.get_running_loop().call_later(_DRIP_S, self._drip)

    def _lose(self, text: str) -> None:
        if self.lost_by:
            return
        self.lost_by = text
        if self._transport is not None:
            self._transport.abort()
        if self._shaken is not None and not self._shaken.done():
            self._shaken.set_exception(RpcError(Ending(UNAVAILABLE, text)))
        self.http2.lost(text)


class Answer:
    """Whoever waits for the one message of an answer."""

    def __init__(self) -> None:
        self._message = b""
        self._done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def take(self, message: bytes) -> None:
        """Take the message."""
        self._message = message

    def end(self, ending: Ending) -> None:
        """Take the end."""
        if self._done.done():
            return
        if ending.code == OK:
            self._done.set_result(self._message)
        else:
            self._done.set_exception(RpcError(ending))

    async def message(self) -> bytes:
        """Wait for the message.

        Raises:
            RpcError: it was a refusal.
        """
        return await self._done


@dataclass(frozen=True, slots=True)
class Server:
    """Where connections go."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """As a URL names it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def dial(server: Server, context: ssl.SSLContext, *, bytes_per_s: float = 0) -> Connection:
    """Connect, and wait for the handshake; ``bytes_per_s`` makes a slow writer.

    Raises:
        RpcError: nobody listens, or the handshake fails.
    """
    loop = asyncio.get_running_loop()
    shaken: asyncio.Future[None] = loop.create_future()
    connection = Connection(context, server, shaken, bytes_per_s)
    try:
        async with asyncio.timeout(_DIAL_S):
            await loop.create_connection(lambda: connection, server.host, server.port)
            await shaken
    except (OSError, TimeoutError) as error:
        shaken.cancel()
        connection.close()
        reason = f"no answer within {_DIAL_S:g} s" if isinstance(error, TimeoutError) else _reason(error)
        raise RpcError(Ending(UNAVAILABLE, f"cannot connect: {reason}")) from error
    except BaseException:
        shaken.cancel()
        connection.close()
        raise
    return connection


def _reason(error: OSError) -> str:
    """Return what went wrong without the address, so that failures of one sort are counted together."""
    return os.strerror(error.errno) if error.errno else str(error)
