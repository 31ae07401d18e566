"""Frames of HTTP/2 and headers of HPACK, as bytes (RFC 9113 and RFC 7541). Pure.

Headers are written as literals that nobody is to index: the peer then needs no memory of ours, and neither do we.
"""

from __future__ import annotations

import struct

PADDED = 0x8


class BrokenPeerError(Exception):
    """The peer does not speak HTTP/2 as agreed. ``str()`` is a sentence."""


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """Return a frame (RFC 9113, 4.1)."""
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 0xFF, kind, flags, number) + payload


def unpadded(flags: int, payload: bytes) -> bytes:
    """Return a payload without its padding (6.1).

    Raises:
        BrokenPeerError: there is more padding than payload.
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise BrokenPeerError("the server padded a frame beyond its end")
    return payload[1 : len(payload) - payload[0]]


def _number(value: int, bits: int) -> bytes:
    """Return an integer as HPACK writes it (RFC 7541, 5.1), the bits before it 0."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    value -= most
    out = [most]
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _text(text: str) -> bytes:
    raw = text.encode()
    return _number(len(raw), 7) + raw


def literal(index: int, value: str) -> bytes:
    """Return a header whose name stands in the static table, not to be indexed."""
    return _number(index, 4) + _text(value)


def named(name: str, value: str) -> bytes:
    """Return a header, not to be indexed."""
    return b"\0" + _text(name) + _text(value)
