"""Audit files as they lie there: in one directory, numbered in the order in which they were begun.

``audit-00000001.jsonl``, ``audit-00000002.jsonl`` …: a new file is begun when one is large or old, and when
the database was rolled back. None is ever written to again afterwards, so they can be copied at any time.
An exported file has the same lines. The last line of the last file may be torn: a writer was killed in
the middle of it, and will write it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct_ops_server.audit.entries import Entry, Link
from ct_ops_server.audit.heads import SignedHead
from ct_ops_server.audit.lines import Anchor, LineError, Record, parse_line

DIRECTORY = "audit"
"""In the data directory."""

HEAD_FILE = "head.json"
"""The latest signed head, by itself: to be copied elsewhere."""

LONGEST_LINE = 512 * 1024
_NAME = re.compile(r"audit-(\d{8})\.jsonl")


@dataclass(frozen=True, slots=True)
class Found:
    """A line of a file."""

    record: Record | None
    """None: the line cannot be read."""
    where: str
    """File and line."""
    is_torn: bool = False
    """It is the last one of its file, and has no end."""


def file_name(number: int) -> str:
    """Return the name of the file with this number."""
    return f"audit-{number:08}.jsonl"


def number_of(path: Path) -> int:
    """Return the number of an audit file."""
    matched = _NAME.fullmatch(path.name)
    assert matched is not None
    return int(matched[1])


def audit_files(directory: Path) -> Sequence[Path]:
    """Return the files in a directory, in the order in which they were begun; none when it is not there."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))


def read_lines(path: Path) -> Iterator[Found]:
    """Yield the lines of one file; a torn last one is not read.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            is_torn = not line.endswith(b"\n") and len(line) < LONGEST_LINE
            yield Found(None if is_torn else parsed(line), f"{path.name}:{number}", is_torn=is_torn)


def heads_in(path: Path) -> Sequence[SignedHead]:
    """Return the signed heads in a small file, also when its last line has no end: it may have come by mail.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        records = [found.record for found in parse_text(file.read(LONGEST_LINE), path.name)]
    return [record for record in records if isinstance(record, SignedHead)]


def parse_text(text: bytes, where: str) -> Iterator[Found]:
    """Yield the lines of a text."""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        yield Found(parsed(line), f"{where}:{number}")


def read_all(paths: Sequence[Path]) -> Iterator[Found]:
    """Yield the lines of all files."""
    for path in paths:
        yield from read_lines(path)


def read_entries(paths: Sequence[Path]) -> Iterator[Entry]:
    """Yield the entries that can be read, without a judgement of them."""
    for found in read_all(paths):
        if isinstance(found.record, Entry):
            yield found.record


def begun_at(path: Path) -> int:
    """Return when a file was begun, in milliseconds since the epoch; 0 when it does not say."""
    first = next(read_lines(path), None)
    return first.record.at_ms if first is not None and isinstance(first.record, Anchor) else 0


def hash_at(paths: Sequence[Path], seq: int) -> bytes | None:
    """Return the hash of an entry, in the latest version that the files have of it."""
    for path in reversed(paths):
        hashes = [link.hash for link in _links(path) if link.seq == seq]
        if hashes:
            return hashes[-1]
    return None


def _links(path: Path) -> Iterator[Link]:
    for found in read_lines(path):
        if isinstance(found.record, Entry | Anchor):
            yield found.record.link


def parsed(line: bytes) -> Record | None:
    """Return what a line says; None when it is not one of ours."""
    try:
        return parse_line(line)
    except LineError:
        return None
