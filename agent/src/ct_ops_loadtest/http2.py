"""HTTP/2 as a client of gRPC needs it, bytes in and bytes out (RFC 9113, and gRPC's "protocol over HTTP/2"). Pure.

Ten thousand virtual agents must leave the machine to the server they measure, and most of what a general library does for a
frame is of no use here (docs/adr has the figures). So this is the smallest client that is correct:

* requests are POSTs whose headers are written as literals, without indexing, so nothing of the peer's table is needed;
  what the peer sends is decoded by ``hpack``, Huffman, tables and all;
* flow control in both directions: never more is sent than the peer allows (the rest waits here, bounded by what callers
  hand in), and what was read is given back when half of the window is used;
* PING and SETTINGS are acknowledged, CONTINUATION and padding are understood, GOAWAY and RST_STREAM end what they name;
* whatever breaks the protocol ends the connection with a sentence (``BrokenPeerError``).

Pushed streams are switched off, priorities are ignored. TLS and sockets are ``connection``'s.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

import hpack

from ct_ops_loadtest.h2_format import PADDED, BrokenPeerError, frame, literal, named, unpadded

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PRIORITY = 0x1, 0x1, 0x4, 0x20
_INITIAL_WINDOW_SETTING, _FRAME_SIZE_SETTING = 4, 5
_WINDOW_SIZE = 65_535
_LARGEST_WINDOW = 2**31 - 1
_LARGEST_FRAME = 16_384
_LARGEST_HEADERS = 64 * 1024
_LARGEST_MESSAGE = 8 * 1024 * 1024
_CANCEL = 8

OK = 0
UNKNOWN = 2
DEADLINE_EXCEEDED = 4
UNAVAILABLE = 14


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream ended: gRPC's status, its text, and the trailing metadata."""

    code: int
    text: str
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Stream:
    on_message: Callable[[bytes], None]
    on_end: Callable[[Ending], None]
    sendable: int
    unread: bytearray = field(default_factory=bytearray)
    waiting: deque[bytes] = field(default_factory=deque)
    """Framed messages that the peer's window has no room for yet."""
    closing: bool = False
    """We half-close when nothing waits any more."""
    taken: int = 0
    """Bytes read and not given back to the peer's window."""


class Http2Client:
    """The client's side of one connection."""

    def __init__(self, authority: str) -> None:
        self._head = bytes((0x83, 0x87)) + literal(1, authority) + _CONTENT
        self._streams: dict[int, _Stream] = {}
        self._next_id = 1
        self._unread = b""
        self._sendable = _WINDOW_SIZE
        self._stream_window = _WINDOW_SIZE
        self._taken = 0
        self._decoder = hpack.Decoder(max_header_list_size=_LARGEST_HEADERS)
        self._headers: tuple[int, int, bytes] | None = None
        """Stream, flags and block of headers that are not complete yet."""
        self._out = bytearray(_PREFACE + frame(_SETTINGS, 0, 0, _OUR_SETTINGS))
        self.going_away = False

    def to_send(self) -> bytes:
        """Return what has to be sent, once."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def open(
        self,
        path: str,
        metadata: Sequence[tuple[str, str]],
        on_message: Callable[[bytes], None],
        on_end: Callable[[Ending], None],
    ) -> int:
        """Begin a request; return its stream."""
        number = self._next_id
        self._next_id += 2
        self._streams[number] = _Stream(on_message, on_end, self._stream_window)
        block = self._head + literal(4, path) + b"".join(named(*pair) for pair in metadata)
        self._out += frame(_HEADERS, _END_HEADERS, number, block)
        return number

    def send(self, number: int, message: bytes) -> None:
        """Send a message on a stream; does nothing when it has ended."""
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.waiting.append(struct.pack(">BI", 0, len(message)) + message)
        self._flush(number, stream)

    def half_close(self, number: int) -> None:
        """Say that nothing more is sent on a stream, after what waits."""
        if (stream := self._streams.get(number)) is not None:
            stream.closing = True
            self._flush(number, stream)

    def cancel(self, number: int) -> None:
        """Give a stream up; nobody hears of its end."""
        if self._streams.pop(number, None) is not None:
            self._out += frame(_RST, 0, number, struct.pack(">I", _CANCEL))

    def received(self, data: bytes) -> None:
        """Take bytes of the peer, and call back for what they say.

        Raises:
            BrokenPeerError: they are no HTTP/2.
        """
        if self._unread:
            data = self._unread + data
        at, end = 0, len(data)
        while end - at >= 9:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > _LARGEST_FRAME:
                raise BrokenPeerError(f"the server sent a frame of {length} bytes")
            if end - at - 9 < length:
                break
            number = int.from_bytes(data[at + 5 : at + 9]) & 0x7FFFFFFF
            self._frame(data[at + 3], data[at + 4], number, data[at + 9 : at + 9 + length])
            at += 9 + length
        self._unread = data[at:]

    def lost(self, text: str) -> None:
        """The connection is gone: end every stream."""
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.on_end(Ending(UNAVAILABLE, text))

    # ---- what the peer says ----------------------------------------------------------------------

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._headers is not None and kind != _CONTINUATION:
            raise BrokenPeerError("the server broke off its headers")
        if kind == _DATA:
            self._data(flags, number, payload)
        elif kind == _WINDOW:
            self._window(number, payload)
        elif kind == _PING:
            if not flags & _ACK:
                self._out += frame(_PING, _ACK, 0, payload)
        elif kind in {_HEADERS, _CONTINUATION}:
            self._header_block(kind, flags, number, payload)
        elif kind == _SETTINGS:
            self._settings(flags, payload)
        elif kind == _RST:
            self._reset(number, payload)
        elif kind == _GOAWAY:
            self._go_away(payload)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._give_back(number, len(payload))
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.unread += unpadded(flags, payload) if flags & PADDED else payload
        unread = stream.unread
        while len(unread) >= 5:
            length = int.from_bytes(unread[1:5])
            if unread[0] or length > _LARGEST_MESSAGE:
                raise BrokenPeerError(f"the server sent a compressed or huge message ({length} bytes)")
            if len(unread) - 5 < length:
                break
            message = bytes(unread[5 : 5 + length])
            del unread[: 5 + length]
            stream.on_message(message)
        if flags & _END_STREAM:
            self._end(number, Ending(UNKNOWN, "the server ended the stream without a status"))

    def _give_back(self, number: int, length: int) -> None:
        self._taken += length
        if self._taken > _WINDOW_SIZE // 2:
            self._out += frame(_WINDOW, 0, 0, struct.pack(">I", self._taken))
            self._taken = 0
        stream = self._streams.get(number)
        if stream is not None:
            stream.taken += length
            if stream.taken > _WINDOW_SIZE // 2:
                self._out += frame(_WINDOW, 0, number, struct.pack(">I", stream.taken))
                stream.taken = 0

    def _header_block(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == _HEADERS:
            payload = unpadded(flags, payload)
            if flags & _PRIORITY:
                payload = payload[5:]
            begun = (number, flags, payload)
        else:
            if self._headers is None or self._headers[0] != number:
                raise BrokenPeerError("the server sent headers of another stream")
            begun = (number, self._headers[1], self._headers[2] + payload)
        if len(begun[2]) > _LARGEST_HEADERS:
            raise BrokenPeerError("the server sent headers without end")
        self._headers = None if flags & _END_HEADERS else begun
        if self._headers is None:
            self._headers_complete(*begun)

    def _headers_complete(self, number: int, flags: int, block: bytes) -> None:
        try:
            headers = [(str(name), str(value)) for name, value in self._decoder.decode(block)]
        except (hpack.HPACKError, UnicodeDecodeError) as error:
            raise BrokenPeerError(f"the server's headers cannot be read: {error}") from error
        if flags & _END_STREAM:
            self._end(number, _ending(headers))
        elif (status := dict(headers).get(":status", "200")) != "200":
            self._end(number, Ending(UNAVAILABLE, f"the server answered with HTTP status {status}"))

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            return
        if len(payload) % 6:
            raise BrokenPeerError("the server's settings cannot be read")
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW_SETTING:
                for stream in self._streams.values():
                    stream.sendable += value - self._stream_window
                self._stream_window = value
        self._out += frame(_SETTINGS, _ACK, 0, b"")
        self._flush_all()

    def _window(self, number: int, payload: bytes) -> None:
        more = int.from_bytes(payload) & 0x7FFFFFFF
        if not number:
            self._sendable += more
            self._flush_all()
        elif (stream := self._streams.get(number)) is not None:
            stream.sendable += more
            self._flush(number, stream)

    def _reset(self, number: int, payload: bytes) -> None:
        self._end(number, Ending(UNAVAILABLE, f"the server reset the stream ({int.from_bytes(payload)})"))

    def _go_away(self, payload: bytes) -> None:
        self.going_away = True
        last = int.from_bytes(payload[:4]) & 0x7FFFFFFF
        for number in [number for number in self._streams if number > last]:
            self._end(number, Ending(UNAVAILABLE, "the server is going away"))

    def _end(self, number: int, ending: Ending) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.on_end(ending)

    # ---- what we say -----------------------------------------------------------------------------

    def _flush_all(self) -> None:
        for number, stream in list(self._streams.items()):
            self._flush(number, stream)

    def _flush(self, number: int, stream: _Stream) -> None:
        while stream.waiting:
            room = min(self._sendable, stream.sendable, _LARGEST_FRAME)
            if room <= 0:
                return
            piece = stream.waiting[0][:room]
            rest = stream.waiting.popleft()[room:]
            if rest:
                stream.waiting.appendleft(rest)
            self._sendable -= len(piece)
            stream.sendable -= len(piece)
            self._out += frame(_DATA, 0, number, piece)
        if stream.closing:
            stream.closing = False
            self._out += frame(_DATA, _END_STREAM, number, b"")


def _ending(headers: Sequence[tuple[str, str]]) -> Ending:
    found = dict(headers)
    code = found.get("grpc-status", "")
    rest = tuple(pair for pair in headers if not pair[0].startswith((":", "grpc-", "content-type")))
    if not code.isdecimal():
        return Ending(UNAVAILABLE, f"the server answered with HTTP status {found.get(':status', '?')}", rest)
    return Ending(int(code), unquote(found.get("grpc-message", "")), rest)


_CONTENT = named("content-type", "application/grpc") + named("te", "trailers")
# No pushed streams, and no table of headers to remember.
_OUR_SETTINGS = struct.pack(">HIHI", 1, 0, 2, 0)
