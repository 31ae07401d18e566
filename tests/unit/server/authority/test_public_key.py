"""One key has one identity, however it is spelled; what is no usable key is refused with a reason."""

from __future__ import annotations

import base64
import contextlib
import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.authority.public_key import (
    KeyKind,
    KeyRefusal,
    KeyRefusedError,
    canonical_public_key,
    parse_public_key,
    parse_spki,
)

_SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
_PRIME = 2**255 - 19


def _armour(der: bytes, *, width: int = 64, newline: str = "\n", label: str = "PUBLIC KEY") -> str:
    text = base64.b64encode(der).decode()
    lines = [text[start : start + width] for start in range(0, len(text), width)]
    return newline.join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


@given(
    seed=st.binary(min_size=32, max_size=32),
    width=st.integers(1, 80),
    newline=st.sampled_from(["\n", "\r\n", " \n", "\n\n", "\n\t"]),
    padding=st.sampled_from(["", "\n", "  ", "\r\n"]),
    label=st.sampled_from(["PUBLIC KEY", "ED25519 PUBLIC KEY"]),
)
def test_raw_spki_and_rewrapped_ed25519_are_one_key(
    seed: bytes, width: int, newline: str, padding: str, label: str
) -> None:
    """Rule 13: raw bytes, SPKI and any wrapping of either give one key id."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key()
    spki = key.public_bytes(*_SPKI)
    plain = parse_public_key(_armour(spki))

    for der in (key.public_bytes_raw(), spki):
        pem = padding + _armour(der, width=width, newline=newline, label=label) + padding
        assert plain == parse_public_key(pem)
    assert plain.key_id == hashlib.sha256(spki).hexdigest()
    assert plain.kind is KeyKind.ED25519


@given(number=st.integers(1, 2**200), width=st.integers(16, 80))
def test_compressed_and_uncompressed_p256_are_one_key(number: int, width: int) -> None:
    """Two encodings of one P-256 point give one key id, that of the canonical form."""
    key = ec.derive_private_key(number, ec.SECP256R1()).public_key()
    spki = key.public_bytes(*_SPKI)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)

    parsed = parse_public_key(_armour(head + point, width=width))

    assert canonical_public_key(key) == parsed == parse_spki(spki)
    assert parsed.spki_der == spki
    assert parsed.kind is KeyKind.P256


@given(text=st.text(max_size=300) | st.binary(max_size=200).map(_armour))
def test_attack_arbitrary_text_is_refused_or_a_key(text: str) -> None:
    """Whatever is sent as a public key is refused or has a canonical form: no other error comes out."""
    with contextlib.suppress(KeyRefusedError):
        key = parse_public_key(text)
        assert key == parse_spki(key.spki_der)


@pytest.mark.parametrize("padding", ["A" * 2048, "\u20ac" * 700])
def test_a_public_key_over_2_kib_is_refused_before_parsing(padding: str) -> None:
    """The limit counts bytes, not characters."""
    with pytest.raises(KeyRefusedError) as caught:
        parse_public_key(_armour(bytes(32)) + padding)

    assert caught.value.reason is KeyRefusal.TOO_LARGE


@pytest.mark.parametrize("kind", ["p-384", "rsa", "x25519"])
def test_other_kinds_of_key_are_refused(kind: str, rsa_key: rsa.RSAPrivateKey) -> None:
    """Only Ed25519 and P-256 are accepted, and the refusal says so."""
    keys: dict[str, PublicKeyTypes] = {
        "p-384": ec.generate_private_key(ec.SECP384R1()).public_key(),
        "rsa": rsa_key.public_key(),
        "x25519": x25519.X25519PrivateKey.generate().public_key(),
    }

    with pytest.raises(KeyRefusedError, match=r"Ed25519 or ECDSA P-256 only") as caught:
        parse_public_key(_armour(keys[kind].public_bytes(*_SPKI)))

    assert caught.value.reason is KeyRefusal.KEY_KIND


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "tok_something",
        _armour(bytes(31)),
        _armour(b""),
        _armour(bytes(32), label="PRIVATE KEY"),
        _armour(bytes(range(32))) + _armour(bytes(range(1, 33))),
        "-----BEGIN PUBLIC KEY-----\nAAA\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END EC PUBLIC KEY-----",
    ],
)
def test_what_is_no_single_public_key_is_malformed(pem: str) -> None:
    """Nothing, damage, a private key and two keys at once are refused as malformed."""
    with pytest.raises(KeyRefusedError) as caught:
        parse_public_key(pem)

    assert caught.value.reason is KeyRefusal.KEY_MALFORMED


@pytest.mark.parametrize(
    "y",
    [
        0,
        1,
        _PRIME - 1,
        int.from_bytes(
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
        ),
        int.from_bytes(
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
        ),
    ],
)
@pytest.mark.parametrize("sign", [0, 1 << 255])
def test_attack_a_small_order_key_anybody_can_sign_for_is_refused(y: int, sign: int) -> None:
    """An Ed25519 point of small order accepts signatures made without any private key."""
    raw = (y | sign).to_bytes(32, "little")

    with pytest.raises(KeyRefusedError) as caught:
        parse_public_key(_armour(raw))

    assert caught.value.reason is KeyRefusal.KEY_MALFORMED


@pytest.mark.parametrize("y", [_PRIME, _PRIME + 3, 2**255 - 1])
def test_attack_a_second_spelling_of_an_ed25519_point_is_refused(y: int) -> None:
    """A y coordinate beyond the field's prime would give one key two identities."""
    with pytest.raises(KeyRefusedError) as caught:
        parse_public_key(_armour(y.to_bytes(32, "little")))

    assert caught.value.reason is KeyRefusal.KEY_MALFORMED
