"""Archives that are the same bytes for the same entries, on any host and with any version of zlib. Pure.

Entries keep the order they are given in, belong to root and carry one date. Nothing is compressed: the largest
entry is an archive already, and what a compressor makes of the rest depends on its version. So zip entries are
stored, and a .tar.gz is a tar in stored blocks of deflate (RFC 1951, 3.2.4), which every gunzip reads.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

EARLIEST = int(datetime(1980, 1, 1, tzinfo=UTC).timestamp())
"""The first second that a zip can hold."""

_BLOCK_BYTES = 65535
_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""No name, no date, no system."""
_UNIX = 3
_REGULAR_FILE = 0o100000


class Packing(StrEnum):
    """How a bundle is packed."""

    ZIP = "zip"
    TAR_GZ = "tar.gz"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive."""

    name: str
    mode: int
    content: bytes


def pack(entries: Sequence[Entry], packing: Packing, *, epoch: int) -> bytes:
    """Return the archive; ``epoch`` dates every entry."""
    match packing:
        case Packing.ZIP:
            return _zip(entries, epoch)
        case Packing.TAR_GZ:
            return _gzip(_tar(entries, epoch))


def unpack(archive: bytes) -> list[Entry]:
    """Return the entries of an archive that ``pack`` made, in their order."""
    if archive.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            return [
                Entry(info.filename, (info.external_attr >> 16) & 0o7777, packed.read(info))
                for info in packed.infolist()
            ]
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        return [Entry(member.name, member.mode, _content(tar, member)) for member in tar]


def packing_of(archive: bytes) -> Packing:
    """Return how an archive of ours is packed."""
    return Packing.ZIP if archive.startswith(b"PK") else Packing.TAR_GZ


def _zip(entries: Iterable[Entry], epoch: int) -> bytes:
    date = datetime.fromtimestamp(max(epoch, EARLIEST), UTC)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for entry in entries:
            info = zipfile.ZipInfo(
                entry.name, (date.year, date.month, date.day, date.hour, date.minute, date.second)
            )
            info.create_system = _UNIX
            info.external_attr = (_REGULAR_FILE | entry.mode) << 16
            archive.writestr(info, entry.content)
    return packed.getvalue()


def _tar(entries: Iterable[Entry], epoch: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.name)
            member.size, member.mode, member.mtime = len(entry.content), entry.mode, max(epoch, EARLIEST)
            member.uname = member.gname = "root"
            archive.addfile(member, io.BytesIO(entry.content))
    return packed.getvalue()


def _gzip(data: bytes) -> bytes:
    tail = struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
    return b"".join((_GZIP_HEAD, *_stored_blocks(data), tail))


def _stored_blocks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _BLOCK_BYTES):
        block = data[start : start + _BLOCK_BYTES]
        is_last = start + _BLOCK_BYTES >= len(data)
        yield struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF)
        yield block


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""
