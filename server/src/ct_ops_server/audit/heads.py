"""Signed heads: how far a chain reached at one time, so that a tail that was cut off is missed.

Signed with an Ed25519 key of this data directory, made for nothing else. Whoever has that directory has the
key too; a head that was kept elsewhere (a log, another machine) is what such a person cannot take back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_server.audit.entries import Link, canonical

_BEGIN = b"-----BEGIN "
_CONTEXT = b"ct-ops-audit-head-1\0"

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Head:
    """What is signed."""

    link: Link
    at_ms: int
    installation: str
    key: str
    """Name of the key, see ``key_name``."""


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head as it stands in a file: not verified yet."""

    head: Head
    signature: bytes


def key_name(key: Ed25519PublicKey) -> str:
    """Return what heads call a key: the start of its SHA-256."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:32]


def parse_public_key(pem: bytes) -> Ed25519PublicKey:
    """Return the key in PEM form.

    Raises:
        ValueError: it is no public Ed25519 key.
    """
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("is no Ed25519 key")  # noqa: TRY004 - what the library raises for any other text
    return key


def parse_public_keys(pem: bytes) -> Sequence[Ed25519PublicKey]:
    """Return all keys of a file that holds them one behind the other, as ``audit.pub`` does.

    Raises:
        ValueError: one is no public Ed25519 key, or there is none.
    """
    blocks = pem.split(_BEGIN)[1:] or [pem]
    return [parse_public_key(_BEGIN + block) for block in blocks]


def sign_head(head: Head, sign: Sign) -> SignedHead:
    """Return the head with its signature."""
    return SignedHead(head, sign(_signed_bytes(head)))


def is_genuine(signed: SignedHead, key: Ed25519PublicKey) -> bool:
    """Tell whether the holder of ``key`` signed this."""
    if signed.head.key != key_name(key):
        return False
    try:
        key.verify(signed.signature, _signed_bytes(signed.head))
    except InvalidSignature:
        return False
    return True


def head_fields(head: Head) -> dict[str, object]:
    """Return a head as JSON's types."""
    return {
        "seq": head.link.seq,
        "hash": head.link.hash.hex(),
        "at_ms": head.at_ms,
        "installation": head.installation,
        "key": head.key,
    }


def _signed_bytes(head: Head) -> bytes:
    return _CONTEXT + canonical(head_fields(head))
