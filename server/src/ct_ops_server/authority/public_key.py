"""An agent's public key: many spellings on the wire, one identity (rule 13).

The identity of a key is SHA-256 of its canonical SubjectPublicKeyInfo. Existing agents send PEM
armour around the *raw* 32 bytes of an Ed25519 key, others the standard SPKI form, and PEM survives
being wrapped anew. All of them give one ``key_id``, because what is hashed is never what was sent: the
key is parsed and encoded again.

Refused, each with a reason: more than 2 KiB (before parsing); other kinds than Ed25519 and P-256;
Ed25519 points of small order or with a second spelling. With the former *anybody* can sign.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

MAX_PEM_BYTES = 2 * 1024
MAX_PEM_TEXT = "2 KiB"

_ARMOUR = re.compile(
    r"-----BEGIN (?P<label>(?:[A-Z0-9]+ )*PUBLIC KEY)-----(?P<body>[A-Za-z0-9+/=\s]+)-----END (?P=label)-----"
)
_RAW_BYTES = 32
_SIGN_BIT = 1 << 255
_FIELD_PRIME = 2**255 - 19
_SMALL_ORDER_Y = frozenset(
    (
        0,
        1,
        _FIELD_PRIME - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    )
)
"""The y coordinates of the eight points of Ed25519 whose order divides 8."""


class KeyRefusal(StrEnum):
    """Why a public key or a CSR is refused: the value is what ``ct-ops-reason`` says on the wire."""

    TOO_LARGE = "too_large"
    KEY_MALFORMED = "key_malformed"
    KEY_KIND = "key_kind"
    CSR_MALFORMED = "csr_malformed"
    CSR_SIGNATURE = "csr_signature"
    KEY_MISMATCH = "key_mismatch"


class KeyRefusedError(ValueError):
    """A public key or CSR that no agent can have. ``str()`` is a sentence for the operator of the host."""

    def __init__(self, reason: KeyRefusal, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class KeyKind(StrEnum):
    """The kinds of key an agent may have."""

    ED25519 = "ed25519"
    P256 = "p-256"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key in its one canonical form."""

    spki_der: bytes = field(repr=False)
    key_id: str
    """SHA-256 of ``spki_der``, lower-case hex."""
    kind: KeyKind


def parse_public_key(pem: str) -> PublicKey:
    """Return the key in PEM armour, whether raw (32 bytes of Ed25519) or SubjectPublicKeyInfo.

    Raises:
        KeyRefusedError: too_large, key_malformed or key_kind.
    """
    if len(pem) > MAX_PEM_BYTES or len(pem.encode(errors="replace")) > MAX_PEM_BYTES:
        raise KeyRefusedError(KeyRefusal.TOO_LARGE, f"The public key is longer than {MAX_PEM_TEXT}.")
    match = _ARMOUR.fullmatch(pem.strip())
    if match is None:
        raise _malformed("is not in PEM form")
    try:
        der = base64.b64decode("".join(match["body"].split()), validate=True)
    except binascii.Error as error:
        raise _malformed("is not in PEM form") from error
    return (
        canonical_public_key(ed25519.Ed25519PublicKey.from_public_bytes(der))
        if len(der) == _RAW_BYTES
        else parse_spki(der)
    )


def parse_spki(der: bytes) -> PublicKey:
    """Return the key in a DER SubjectPublicKeyInfo (a stored key, or one taken from elsewhere).

    Raises:
        KeyRefusedError: key_malformed or key_kind.
    """
    try:
        key = serialization.load_der_public_key(der)
    except UnsupportedAlgorithm as error:
        raise _wrong_kind() from error
    except ValueError as error:
        raise _malformed("cannot be read") from error
    return canonical_public_key(key)


def canonical_public_key(key: PublicKeyTypes) -> PublicKey:
    """Return the canonical form of a key that the cryptography library has parsed.

    Raises:
        KeyRefusedError: key_malformed or key_kind.
    """
    kind = _kind(key)
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(spki, hashlib.sha256(spki).hexdigest(), kind)


def _kind(key: PublicKeyTypes) -> KeyKind:
    if isinstance(key, ed25519.Ed25519PublicKey):
        _refuse_weak_point(key.public_bytes_raw())
        return KeyKind.ED25519
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return KeyKind.P256
    raise _wrong_kind()


def _refuse_weak_point(raw: bytes) -> None:
    """Refuse points of small order (signatures under them prove nothing) and second spellings of a point."""
    y = int.from_bytes(raw, "little") & ~_SIGN_BIT
    if y >= _FIELD_PRIME or y in _SMALL_ORDER_Y:
        raise _malformed("is not a usable Ed25519 key")


def _malformed(what: str) -> KeyRefusedError:
    return KeyRefusedError(
        KeyRefusal.KEY_MALFORMED,
        f"The public key {what}. Stop the agent, move its agent_key.pem and agent_key.pub away and start it "
        "again: it makes a new key.",
    )


def _wrong_kind() -> KeyRefusedError:
    return KeyRefusedError(
        KeyRefusal.KEY_KIND, "The public key is of a kind that is not accepted: Ed25519 or ECDSA P-256 only."
    )
