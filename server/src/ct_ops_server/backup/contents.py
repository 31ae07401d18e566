"""What is inside a backup: entries one after the other, each with its name and size, and their digests at the end.

    length of the label (4) · label (JSON: name, size) · that many bytes · … · the entry ``digests``

An archive format would bring paths, links and owners, and with them what an archive can do to whoever opens it. Names
here are only names: ``belongings`` knows which there are, and where each goes.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Protocol

from ct_ops_server.backup.envelope import ByteSink, ByteSource
from ct_ops_server.backup.errors import DamagedError, NewerBackupError

ABOUT = "about"
DATABASE = "database"
FORMAT = 1

_DIGESTS = "digests"
_NAME = re.compile(r"[a-z][a-z0-9-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_LABEL_LIMIT = 1024
_DOCUMENT_LIMIT = 4 * 1024 * 1024
_PIECE = 256 * 1024
_NO_LABEL = "this backup has an entry without a label"


class Envelope(ByteSource, Protocol):
    """Where entries are read from: also says whether that was all."""

    def read_to_end(self) -> None:
        """Raise unless everything was there, and nothing more."""


@dataclass(frozen=True, slots=True)
class About:
    """What a backup says of itself; read before anything else of it is used."""

    made_at_ms: int
    made_by: str
    """The version of CT-Ops."""
    engine: str
    """``sqlite`` or ``postgresql``: a copy of one cannot be read by the other."""
    schema: str
    installation_id: str
    counts: Mapping[str, int]
    """Rows of every table at the moment of the copy."""
    audit_seq: int
    """The last entry of the audit log that the database held, 0 when it had none."""
    audit_hash: str
    """The hash of that entry, in hex."""
    entries: tuple[str, ...]
    """The names of the other entries."""
    audit_keys: tuple[str, ...] = ()
    """The public keys that sign heads of the audit log, in hex; none in a backup of a version that did not say."""

    def to_json(self) -> bytes:
        """Return it as its entry holds it."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields | {"format": FORMAT}, sort_keys=True).encode()


def parse_about(text: bytes) -> About:
    """Return what the entry ``about`` says.

    Raises:
        NewerBackupError: its form is not known here.
        DamagedError: it is none; as it is authentic, another program wrote it.
    """
    try:
        fields = json.loads(text)
        if fields["format"] != FORMAT:
            raise NewerBackupError(f"the contents of this backup have the form {fields['format']}")
        return About(
            made_at_ms=int(fields["made_at_ms"]),
            made_by=str(fields["made_by"]),
            engine=str(fields["engine"]),
            schema=str(fields["schema"]),
            installation_id=str(fields["installation_id"]),
            counts={str(table): int(count) for table, count in fields["counts"].items()},
            audit_seq=int(fields["audit_seq"]),
            audit_hash=bytes.fromhex(fields["audit_hash"]).hex(),
            entries=tuple(str(name) for name in fields["entries"]),
            audit_keys=tuple(str(key) for key in fields.get("audit_keys", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError("this backup does not say what it is") from error


def is_name(name: str) -> bool:
    """Return whether an entry may be called this: parts of a path, none of them hidden or leading upwards."""
    return _NAME.fullmatch(name) is not None


class ContentsWriter:
    """Writes entries."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._digests: dict[str, str] = {}

    def add(self, name: str, content: BinaryIO, size: int) -> None:
        """Write one entry of exactly ``size`` bytes.

        Raises:
            OSError: the content is shorter.
        """
        self._digests[name] = self._write(name, content, size)

    def finish(self) -> None:
        """Write the digests of all entries."""
        text = json.dumps(self._digests, sort_keys=True).encode()
        self._write(_DIGESTS, BytesIO(text), len(text))

    def _write(self, name: str, content: BinaryIO, size: int) -> str:
        label = json.dumps({"name": name, "size": size}).encode()
        self._sink.write(struct.pack(">I", len(label)) + label)
        digest = hashlib.sha256()
        for piece in _pieces(content, size):
            digest.update(piece)
            self._sink.write(piece)
        return digest.hexdigest()


def read_contents(
    envelope: Envelope, *, place: Callable[[str], AbstractContextManager[ByteSink]]
) -> Mapping[str, str]:
    """Read every entry into where ``place`` says, and return their digests, all of them compared.

    The first is always ``about``.

    Raises:
        DamagedError: something is not what was written, or missing.
    """
    found: dict[str, str] = {}
    while True:
        label = _read_label(envelope)
        if label.name == _DIGESTS:
            break
        if label.name in found or (not found and label.name != ABOUT):
            raise DamagedError("the entries of this backup are not in their order")
        with place(label.name) as sink:
            found[label.name] = _copy(envelope, sink, label.size)
    said = _read_document(envelope, label.size)
    envelope.read_to_end()
    if said != found:
        raise DamagedError("the entries of this backup are not those whose digests it holds")
    return found


def read_first(envelope: Envelope) -> bytes:
    """Return the first entry, which is ``about``: authentic, whatever comes after it.

    Raises:
        DamagedError: it is not there.
    """
    label = _read_label(envelope)
    if label.name != ABOUT or label.size > _DOCUMENT_LIMIT:
        raise DamagedError("this backup does not say what it is")
    return envelope.read(label.size)


@dataclass(frozen=True, slots=True)
class _Label:
    name: str
    size: int


def _read_label(envelope: Envelope) -> _Label:
    try:
        (length,) = struct.unpack(">I", envelope.read(4))
        fields = json.loads(envelope.read(min(length, _LABEL_LIMIT)))
        name, size = fields["name"], fields["size"]
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise DamagedError(_NO_LABEL) from error
    if not (isinstance(name, str) and is_name(name) and type(size) is int and size >= 0):
        raise DamagedError(_NO_LABEL)
    return _Label(name, size)


def _read_document(envelope: Envelope, size: int) -> Any:
    if size > _DOCUMENT_LIMIT:
        raise DamagedError(_NO_LABEL)
    try:
        return json.loads(envelope.read(size))
    except ValueError as error:
        raise DamagedError("the digests of this backup cannot be read") from error


def _copy(envelope: Envelope, sink: ByteSink, size: int) -> str:
    digest = hashlib.sha256()
    left = size
    while left:
        piece = envelope.read(min(left, _PIECE))
        if not piece:
            raise DamagedError("this backup was cut off")
        digest.update(piece)
        sink.write(piece)
        left -= len(piece)
    return digest.hexdigest()


def _pieces(content: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = content.read(min(left, _PIECE))
        if not piece:
            raise OSError("a file became shorter while it was read")
        left -= len(piece)
        yield piece
