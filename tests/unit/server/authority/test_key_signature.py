"""Signatures of both kinds of key, and of nobody else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_server.authority.key_signature import signed_by
from ct_ops_server.authority.public_key import canonical_public_key

ED25519, P256 = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
TEXT = b"what was to be signed"
SIGNED = {
    "ed25519": (canonical_public_key(ED25519.public_key()), ED25519.sign(TEXT)),
    "p-256": (canonical_public_key(P256.public_key()), P256.sign(TEXT, ec.ECDSA(hashes.SHA256()))),
}


@pytest.mark.parametrize("kind", SIGNED)
def test_a_key_signed_what_it_signed_and_nothing_else(kind: str) -> None:
    """The text, the whole text, and this very signature."""
    key, signature = SIGNED[kind]

    assert signed_by(key, signature, TEXT)
    assert not signed_by(key, signature, TEXT + b".")
    assert not signed_by(key, signature[:-1], TEXT)
    assert not signed_by(key, b"", TEXT)


def test_one_keys_signature_is_not_anothers() -> None:
    """Neither kind takes the other's for its own."""
    (one, its), (other, others) = SIGNED.values()

    assert not signed_by(one, others, TEXT)
    assert not signed_by(other, its, TEXT)
