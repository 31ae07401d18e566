"""What of a file's end is whole, after its writer was killed or the power was cut.

Only what was written last can be torn: a signed head, and an anchor, are written when everything before them is on the
disk. Behind the last one of them a power cut may leave anything: half a line, zeros, later lines without earlier ones. So the
whole part ends where, from there on, a line cannot be read or an entry does not follow the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ct_ops_server.audit.entries import Entry, Link, hash_after
from ct_ops_server.audit.heads import SignedHead
from ct_ops_server.audit.lines import Anchor
from ct_ops_server.audit.reading import parsed

_TAIL_BYTES = 64 * 1024
_FIRM = (b'{"anchor":', b'{"head":')


@dataclass(frozen=True, slots=True)
class WholePart:
    """How much of a file is whole."""

    ends: int
    """So many bytes."""
    reached: Link
    signed: SignedHead | None
    """The head that it ends with; None: it ends with something else."""


def whole_part(path: Path) -> WholePart | None:
    """Return how much of a file is whole, read from its end; None when nothing in it can be read.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        step = _TAIL_BYTES
        while True:
            start = max(0, size - step)
            file.seek(start)
            tail = file.read(size - start)
            begins = 0 if start == 0 else tail.find(b"\n") + 1
            found = _behind_firm_ground(start + begins, tail[begins:])
            if found is not None or start == 0:
                return found
            step *= 4


def _behind_firm_ground(offset: int, tail: bytes) -> WholePart | None:
    lines = [line + b"\n" for line in tail.split(b"\n")[:-1]]  # what is behind the last line's end is torn
    for place in range(len(lines) - 1, -1, -1):
        if (firm := _firm(lines[place])) is not None:
            reached, signed = firm
            ends = offset + sum(map(len, lines[: place + 1]))
            return _grown(WholePart(ends, reached, signed), lines[place + 1 :])
    return None


def _firm(line: bytes) -> tuple[Link, SignedHead | None] | None:
    """Return what a head or an anchor says; None for any other line."""
    record = parsed(line) if line.startswith(_FIRM) else None
    if isinstance(record, SignedHead):
        return record.head.link, record
    return (record.link, None) if isinstance(record, Anchor) else None


def _grown(part: WholePart, lines: list[bytes]) -> WholePart:
    ends, reached, signed = part.ends, part.reached, part.signed
    for line in lines:
        entry = parsed(line)
        if not isinstance(entry, Entry) or hash_after(reached.hash, entry) != entry.hash:
            break
        ends, reached, signed = ends + len(line), entry.link, None
    return WholePart(ends, reached, signed)
