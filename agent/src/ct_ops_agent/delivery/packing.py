"""How bodies are kept: compressed where that pays. One byte in front says which."""

from __future__ import annotations

import zlib

_WORTH_COMPRESSING = 256
_FASTEST = 1


def packed(body: bytes) -> bytes:
    """Return a body as it is kept."""
    if len(body) >= _WORTH_COMPRESSING:
        small = zlib.compress(body, _FASTEST)
        if len(small) < len(body):
            return b"z" + small
    return b"=" + body


def unpacked(kept: bytes) -> bytes:
    """Return a body as it was."""
    return zlib.decompress(kept[1:]) if kept[:1] == b"z" else kept[1:]
