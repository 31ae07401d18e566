"""Appends a chain to files: one writer a directory, whole lines, never a gap and never twice.

A file is begun with an anchor, appended to until it is large or old, ended with a signed head, and then never
touched again. Whoever writes holds the directory's lock; a killed writer lets go of it, and the next one
cuts off what it tore (``healing``). What was appended is on the disk when ``append`` returns.

Somebody else may remove, exchange or cut the file that is written: ``was_touched`` tells, and whoever opens the
directory anew goes on from what is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice, pairwise
from pathlib import Path

from ct_ops_server.audit.entries import Entry, Link
from ct_ops_server.audit.heads import Head, Sign, SignedHead, sign_head
from ct_ops_server.audit.healing import WholePart, whole_part
from ct_ops_server.audit.lines import Anchor, Record, line_of
from ct_ops_server.audit.reading import HEAD_FILE, audit_files, begun_at, file_name, number_of

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class FileLimits:
    """When a new file is begun, and how long old ones are kept."""

    bytes: int = 16 * 1024 * 1024
    age: timedelta = timedelta(days=30)
    keep: timedelta = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs heads."""

    installation: str
    key: str
    """Name of the key."""
    sign: Sign


@contextmanager
def only_writer(directory: Path) -> Iterator[bool]:
    """Hold the directory, making it (0700) when it is not there; the value is False when somebody else does.

    Raises:
        OSError: it cannot be made or opened.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


class ChainFiles:
    """The files of one directory, for their only writer."""

    def __init__(self, directory: Path, signer: Signer, limits: FileLimits) -> None:
        """Open the files; what a killed writer tore is cut off.

        Raises:
            OSError: a file cannot be read or written.
        """
        self._directory = directory
        self._signer = signer
        self._limits = limits
        self._file: int | None = None
        self._path = directory
        self._size = 0
        self._begun_ms = 0
        self._signed: Link | None = None
        self._last_head: SignedHead | None = None
        self.reached: Link | None = None
        """How far the files reach; None: there is none."""
        self.torn_bytes = 0
        """So many were cut off the last file: they will be written again."""
        self._open_last()

    def close(self) -> None:
        """Close the file that is written."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def was_touched(self) -> bool:
        """Tell whether somebody else removed, exchanged or cut the file that is written, or wrote to it."""
        if self._file is None:
            return False
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            return True
        ours = os.fstat(self._file)
        return (there.st_dev, there.st_ino, there.st_size) != (ours.st_dev, ours.st_ino, self._size)

    def begin(self, anchor: Link, *, now_ms: int) -> None:
        """Begin a file whose first entry will follow ``anchor``.

        Raises:
            OSError: it cannot be made.
        """
        paths = audit_files(self._directory)
        number = number_of(paths[-1]) + 1 if paths else 1
        self.close()
        path = self._directory / file_name(number)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._path, self._size, self._begun_ms = path, 0, now_ms
        try:
            self._write([Anchor(anchor, now_ms, self._signer.installation)])
        except OSError:
            path.unlink()  # a file without its anchor would be one that nobody wrote
            self.close()
            raise
        self._sync_directory()
        self.reached = anchor

    def append(self, entries: Sequence[Entry], *, now_ms: int) -> None:
        """Write entries behind those that are there.

        Raises:
            OSError: nothing was written.
        """
        assert self.reached is not None
        if self._is_due_for_a_new_one(now_ms):
            self.sign(now_ms=now_ms)
            self.begin(self.reached, now_ms=now_ms)
            self._forget(now_ms)
        self._write(entries)
        self.reached = entries[-1].link

    def sign(self, *, now_ms: int) -> SignedHead | None:
        """Sign how far the chain reaches, in the file and in ``head.json``; None when that was signed already.

        Raises:
            OSError: it cannot be written.
        """
        if self.reached is None or self.reached == self._signed:
            return None
        signed = self._last_head
        if signed is None or (signed.head.link, signed.head.key) != (self.reached, self._signer.key):
            head = Head(self.reached, now_ms, self._signer.installation, self._signer.key)
            signed = sign_head(head, self._signer.sign)
            self._write([signed])
            self._last_head = signed  # once in the file, however often the one beside it cannot be written
        self._replace_head_file(signed)
        self._signed = self.reached
        return signed

    def _open_last(self) -> None:
        for path in reversed(audit_files(self._directory)):
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                whole = whole_part(path)
                if whole is not None:
                    self._go_on(path, descriptor, whole)
                    return
                _refuse_what_is_not_torn(path)
                path.unlink()  # torn before its first line was whole: there is nothing in it
            finally:
                if descriptor != self._file:
                    os.close(descriptor)

    def _go_on(self, path: Path, descriptor: int, whole: WholePart) -> None:
        self.torn_bytes = os.fstat(descriptor).st_size - whole.ends
        if self.torn_bytes:
            os.ftruncate(descriptor, whole.ends)
        self._begun_ms = begun_at(path)
        self._file, self._path, self._size = descriptor, path, whole.ends
        self.reached, self._last_head = whole.reached, whole.signed

    def _is_due_for_a_new_one(self, now_ms: int) -> bool:
        if self._file is None:
            return True
        found = os.fstat(self._file)
        return found.st_size >= self._limits.bytes or now_ms - self._begun_ms >= _ms(self._limits.age)

    def _forget(self, now_ms: int) -> None:
        """Remove files whose last entry is past keeping, oldest first, never the one that is written.

        At most two when one was begun: a clock that jumped by years must not cost years of decisions.
        """
        for path, following in islice(pairwise(audit_files(self._directory)), 2):
            if now_ms - begun_at(following) < _ms(self._limits.keep):
                return
            path.unlink()

    def _write(self, records: Sequence[Record]) -> None:
        assert self._file is not None
        content = b"".join(map(line_of, records))
        try:
            _write_whole(self._file, content)
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, min(self._size, os.fstat(self._file).st_size))
            raise
        self._size += len(content)

    def _replace_head_file(self, signed: SignedHead) -> None:
        temporary = self._directory / f".{HEAD_FILE}.new"
        temporary.unlink(missing_ok=True)  # of a killed writer, or a link that somebody planted
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_whole(descriptor, line_of(signed))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(self._directory / HEAD_FILE)

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_whole(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _refuse_what_is_not_torn(path: Path) -> None:
    """Refuse a file with whole lines of which none is ours: what somebody made of it is evidence.

    Raises:
        OSError: it is one.
    """
    with path.open("rb") as file:
        if any(b"\n" in piece for piece in iter(lambda: file.read(_PIECE), b"")):
            raise OSError(
                errno.EBADMSG, f"{path.name} is no audit file any more: keep it elsewhere and remove it"
            )


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
