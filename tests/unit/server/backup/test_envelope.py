"""The encrypted form of a backup, and what somebody without the passphrase may try on it."""

from __future__ import annotations

import json
import struct
import tracemalloc
from hashlib import sha256
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.backup.envelope import BLOCK_BYTES, MARK, Cost, EnvelopeReader, EnvelopeWriter
from ct_ops_server.backup.errors import DamagedError, NewerBackupError, WrongPassphraseError

CHEAP = Cost(log_n=4)
PASSPHRASE = b"correct horse battery"
SEALED_BLOCK = BLOCK_BYTES + 16


def sealed(data: bytes, passphrase: bytes = PASSPHRASE) -> bytes:
    sink = BytesIO()
    writer = EnvelopeWriter(sink, passphrase, cost=CHEAP)
    writer.write(data)
    writer.finish()
    return sink.getvalue()


def opened(envelope: bytes, passphrase: bytes = PASSPHRASE) -> bytes:
    reader = EnvelopeReader(BytesIO(envelope), passphrase)
    data = b"".join(iter(lambda: reader.read(70_000), b""))
    reader.read_to_end()
    return data


def blocks_of(envelope: bytes) -> tuple[bytes, list[bytes]]:
    """Return everything before the first block, and the blocks."""
    (length,) = struct.unpack(">I", envelope[16:20])
    start = 20 + length + 64
    rest = envelope[start:]
    return envelope[:start], [rest[at : at + SEALED_BLOCK] for at in range(0, len(rest), SEALED_BLOCK)]


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_what_was_sealed_is_opened_whatever_its_length(size: int) -> None:
    """Also when a block is exactly full."""
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    assert data == opened(sealed(data))


def test_a_wrong_passphrase_is_told_from_a_damaged_beginning() -> None:
    """An operator at night must know which of the two to look for."""
    envelope = sealed(b"data")
    with pytest.raises(WrongPassphraseError):
        opened(envelope, b"another passphrase")
    with pytest.raises(DamagedError):
        opened(envelope[:30] + bytes([envelope[30] ^ 1]) + envelope[31:])


@given(st.data())
def test_a_single_changed_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    """No byte of the file is unprotected."""
    envelope = bytearray(sealed(b"some secret" * 100))
    at = data.draw(st.integers(0, len(envelope) - 1))
    envelope[at] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises((DamagedError, WrongPassphraseError, NewerBackupError)):
        opened(bytes(envelope))


def test_blocks_that_are_swapped_missing_doubled_or_appended_are_noticed() -> None:
    """Each is authentic by itself; the order and the end are too."""
    start, (first, second, last) = blocks_of(sealed(b"a" * (2 * BLOCK_BYTES + 5)))
    attacks = {
        "swapped": [second, first, last],
        "missing": [first, last],
        "doubled": [first, first, second, last],
        "without its last": [first, second],
        "without any": [],
        "with more after it": [first, second, last, last],
        "only its last": [last],
    }
    for blocks in attacks.values():
        with pytest.raises(DamagedError):
            opened(start + b"".join(blocks))


def test_an_end_that_was_cut_off_is_noticed_wherever() -> None:
    """Also inside the head."""
    envelope = sealed(b"data")
    for end in range(len(envelope)):
        with pytest.raises(DamagedError):
            opened(envelope[:end])


def test_blocks_of_another_backup_with_the_same_passphrase_do_not_fit() -> None:
    """Every file has a key of its own."""
    start, _ = blocks_of(sealed(b"mine"))
    _, blocks = blocks_of(sealed(b"yours"))
    with pytest.raises(DamagedError):
        opened(start + b"".join(blocks))


def test_a_head_that_asks_for_all_the_memory_is_refused_before_it_gets_any() -> None:
    """Its digest is right, for anybody can compute one."""
    text = json.dumps(
        {
            "kdf": "scrypt",
            "log_n": 40,
            "r": 8,
            "p": 1,
            "salt": "00" * 32,
            "cipher": "aes-256-gcm-stream",
            "prefix": "00" * 7,
            "block": BLOCK_BYTES,
        }
    ).encode()
    head = MARK + struct.pack(">I", len(text)) + text
    with pytest.raises(DamagedError, match="no backup needs"):
        opened(head + sha256(head).digest() + b"\x00" * 32)


def test_the_form_of_a_newer_version_is_named() -> None:
    """It is no damage, and another copy would not help."""
    envelope = sealed(b"data")
    with pytest.raises(NewerBackupError):
        opened(MARK[:-1] + b"\x02" + envelope[16:])


def test_what_is_inside_cannot_be_found_outside() -> None:
    """The file holds keys."""
    assert b"some secret" not in sealed(b"some secret" * 50)


def test_much_data_needs_the_memory_of_a_few_blocks() -> None:
    """A database of gigabytes is backed up by a server that has none to spare."""

    class Nothing:
        def write(self, data: bytes) -> int:
            return len(data)

    piece = b"x" * BLOCK_BYTES
    tracemalloc.start()
    try:
        writer = EnvelopeWriter(Nothing(), PASSPHRASE, cost=CHEAP)
        for _ in range(200):
            writer.write(piece)
        writer.finish()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * BLOCK_BYTES
