"""The encrypted form of a backup: blocks that nobody can read, change, reorder, or cut off unseen.

    mark (16 bytes) · length of the head (4) · head (JSON) · SHA-256 of all that (32) · proof of the passphrase (32) · blocks

* The key is scrypt of the passphrase, bound by HKDF to the very bytes of the head. A head that was damaged fails its
  digest, a wrong passphrase fails the proof (HMAC): the two are told apart, and a head that somebody changed on
  purpose makes another key.
* The blocks are STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) over AES-256-GCM: the nonce of a block is a random
  prefix, its number, and whether it is the last. All but the last have the same size. So a block that is
  missing, doubled, swapped or followed by anything fails, and so does an end that is no last block.
* What ``read`` returns is authentic at once, but only ``read_to_end`` says that it is all: use nothing before that.

A gigabyte costs the memory of a block. The head says how it was made, so a later version can make it otherwise.
Out of scope: where the passphrase comes from, and what is inside.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ct_ops_server.backup.errors import DamagedError, NewerBackupError, WrongPassphraseError

MARK = b"CT-OPS BACKUP\n\x00\x01"
"""The last byte is the version of all that follows it."""

BLOCK_BYTES = 256 * 1024

_HEAD_LIMIT = 4096
_TAG_BYTES = 16
_PREFIX_BYTES = 7
_SALT_BYTES = 32
_DIGEST_BYTES = 32
_LARGEST_BLOCK = 16 * 1024 * 1024
_LARGEST_LOG_N = 20  # a gigabyte: what a head asks for is spent before it is known who wrote it


class ByteSink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take all of the bytes."""


class ByteSource(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes, fewer only at the end."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What guessing one passphrase costs: scrypt's parameters. The default takes 128 MiB and half a second."""

    log_n: int = 17
    r: int = 8
    p: int = 1


class EnvelopeWriter:
    """Encrypts what is written to it; without ``finish`` the result is worthless, and is seen to be."""

    def __init__(
        self,
        sink: ByteSink,
        passphrase: bytes,
        *,
        cost: Cost = Cost(),
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Write the head."""
        prefix = random(_PREFIX_BYTES)
        fields = {
            "kdf": "scrypt",
            "log_n": cost.log_n,
            "r": cost.r,
            "p": cost.p,
            "salt": random(_SALT_BYTES).hex(),
            "cipher": "aes-256-gcm-stream",
            "prefix": prefix.hex(),
            "block": BLOCK_BYTES,
        }
        text = json.dumps(fields, sort_keys=True).encode()
        head = MARK + struct.pack(">I", len(text)) + text
        keys = _derive(passphrase, fields, head)
        self._sink = sink
        self._blocks = _Blocks(keys.blocks, prefix)
        self._waiting = bytearray()
        sink.write(head + hashlib.sha256(head).digest() + _proof(keys, head))

    def write(self, data: bytes) -> int:
        """Take bytes; what fills a block is written."""
        self._waiting += data
        # Never the last block from here: whether one is the last is known at the end only.
        while len(self._waiting) > BLOCK_BYTES:
            self._sink.write(self._blocks.seal(bytes(self._waiting[:BLOCK_BYTES]), last=False))
            del self._waiting[:BLOCK_BYTES]
        return len(data)

    def finish(self) -> None:
        """Write the last block."""
        self._sink.write(self._blocks.seal(bytes(self._waiting), last=True))
        self._waiting.clear()


class EnvelopeReader:
    """Decrypts an envelope, block by block."""

    def __init__(self, source: ByteSource, passphrase: bytes) -> None:
        """Read the head.

        Raises:
            WrongPassphraseError: it was made with another passphrase.
            NewerBackupError: its form is not known here.
            DamagedError: it is no backup, or its head was damaged.
        """
        head, text = _read_head(source)
        if _exactly(source, _DIGEST_BYTES) != hashlib.sha256(head).digest():
            raise DamagedError("the beginning of this backup is damaged")
        fields = _parse(text)
        keys = _derive(passphrase, fields, head)
        if not hmac.compare_digest(_exactly(source, _DIGEST_BYTES), _proof(keys, head)):
            raise WrongPassphraseError
        self._source = source
        self._block = int(fields["block"])
        self._blocks = _Blocks(keys.blocks, bytes.fromhex(fields["prefix"]))
        self._ahead = source.read(self._block + _TAG_BYTES)
        self._open = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        """Return so many authentic bytes, fewer only at the end.

        Raises:
            DamagedError: the next block is not what was written.
        """
        while len(self._open) < size and not self._ended:
            self._open += self._next_block()
        taken, self._open = self._open[:size], self._open[size:]
        return taken

    def read_to_end(self) -> None:
        """Return when the last block was seen, and nothing after it.

        Raises:
            DamagedError: something else came.
        """
        while self.read(self._block):
            pass

    def _next_block(self) -> bytes:
        sealed, self._ahead = self._ahead, self._source.read(self._block + _TAG_BYTES)
        self._ended = not self._ahead
        try:
            return self._blocks.open(sealed, last=self._ended)
        except InvalidTag:
            raise DamagedError("this backup is damaged or was cut off") from None


@dataclass(frozen=True, slots=True, repr=False)
class _Keys:
    proof: bytes
    blocks: bytes


class _Blocks:
    """Blocks in their order."""

    def __init__(self, key: bytes, prefix: bytes) -> None:
        self._cipher = AESGCM(key)
        self._prefix = prefix
        self._number = 0

    def seal(self, data: bytes, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(last=last), data, None)

    def open(self, sealed: bytes, *, last: bool) -> bytes:
        return self._cipher.decrypt(self._nonce(last=last), sealed, None)

    def _nonce(self, *, last: bool) -> bytes:
        nonce = self._prefix + struct.pack(">I?", self._number, last)  # struct refuses what comes after 2^32
        self._number += 1
        return nonce


def _derive(passphrase: bytes, fields: dict[str, Any], head: bytes) -> _Keys:
    kdf = Scrypt(
        salt=bytes.fromhex(fields["salt"]), length=32, n=1 << fields["log_n"], r=fields["r"], p=fields["p"]
    )
    salt = hashlib.sha256(head).digest()
    both = HKDF(SHA256(), 64, salt=salt, info=b"ct-ops backup 1").derive(kdf.derive(passphrase))
    return _Keys(both[:32], both[32:])


def _proof(keys: _Keys, head: bytes) -> bytes:
    return hmac.digest(keys.proof, head, "sha256")


def _read_head(source: ByteSource) -> tuple[bytes, bytes]:
    mark = source.read(len(MARK))
    if mark[:-1] != MARK[:-1]:
        raise DamagedError("this file is no backup of ct-ops-server")
    if mark != MARK:
        raise NewerBackupError(f"this backup has the form {mark[-1]}")
    length = _exactly(source, 4)
    (size,) = struct.unpack(">I", length)
    if size > _HEAD_LIMIT:
        raise DamagedError("the beginning of this backup is damaged")
    text = _exactly(source, size)
    return mark + length + text, text


def _exactly(source: ByteSource, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise DamagedError("this backup was cut off")
    return data


def _parse(text: bytes) -> dict[str, Any]:
    """Return the fields of a head whose digest is right, which any writer can see to."""
    try:
        fields = json.loads(text)
        known = (fields["kdf"], fields["cipher"]) == ("scrypt", "aes-256-gcm-stream")
        sizes = (fields["log_n"], fields["r"], fields["p"], fields["block"])
        salts = (len(bytes.fromhex(fields["salt"])), len(bytes.fromhex(fields["prefix"])))
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError("the beginning of this backup is damaged") from error
    if not known:
        raise NewerBackupError("this backup is encrypted in a form not known here")
    if not _reasonable(sizes) or salts != (_SALT_BYTES, _PREFIX_BYTES):
        raise DamagedError("the beginning of this backup asks for what no backup needs")
    return dict(fields)


def _reasonable(sizes: tuple[Any, ...]) -> bool:
    limits = (_LARGEST_LOG_N, 8, 4, _LARGEST_BLOCK)
    return all(type(size) is int and 1 <= size <= limit for size, limit in zip(sizes, limits, strict=True))
