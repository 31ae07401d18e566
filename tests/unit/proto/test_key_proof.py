"""What an agent signs to prove its key freshly: nothing of it can be exchanged afterwards."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_proto.key_proof import signed_text

NONCE = bytes(range(32))
SERVER = b"the server's certificate"
CSR = b"the agent's request"


def test_the_text_is_the_documented_one() -> None:
    """Context, nonce, digest of the server's certificate, digest of the CSR: in this order, nothing between."""
    digests = hashlib.sha256(SERVER).digest() + hashlib.sha256(CSR).digest()

    assert b"ct-ops-register-1" + NONCE + digests == signed_text(
        nonce=NONCE, server_certificate_der=SERVER, csr_der=CSR
    )


@pytest.mark.parametrize(
    ("nonce", "server", "csr"),
    [
        pytest.param(bytes(32), SERVER, CSR, id="replayed with another challenge"),
        pytest.param(NONCE, b"another server", CSR, id="relayed to another server"),
        pytest.param(NONCE, SERVER, b"another key's request", id="moved to another CSR"),
    ],
)
def test_a_proof_is_good_for_one_challenge_one_server_and_one_csr(
    nonce: bytes, server: bytes, csr: bytes
) -> None:
    """A signature that someone overheard or relayed fits nothing else."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    proof = key.sign(signed_text(nonce=NONCE, server_certificate_der=SERVER, csr_der=CSR))
    key.public_key().verify(proof, signed_text(nonce=NONCE, server_certificate_der=SERVER, csr_der=CSR))

    with pytest.raises(InvalidSignature):
        key.public_key().verify(proof, signed_text(nonce=nonce, server_certificate_der=server, csr_der=csr))


def test_a_proof_is_good_for_one_key() -> None:
    """Another key's signature over the same text proves nothing."""
    text = signed_text(nonce=NONCE, server_certificate_der=SERVER, csr_der=CSR)
    stolen = Ed25519PrivateKey.from_private_bytes(bytes(32)).sign(text)

    with pytest.raises(InvalidSignature):
        Ed25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key().verify(stolen, text)


nonces = st.binary(min_size=32, max_size=32)
parts = st.tuples(nonces, st.binary(max_size=64), st.binary(max_size=64))


@given(parts, parts)
def test_different_parts_never_make_the_same_text(
    one: tuple[bytes, bytes, bytes], other: tuple[bytes, bytes, bytes]
) -> None:
    """No byte can wander from one part into its neighbour: everything after the nonce has a fixed width."""
    texts = [
        signed_text(nonce=nonce, server_certificate_der=server, csr_der=csr)
        for nonce, server, csr in (one, other)
    ]

    assert (one == other) == (texts[0] == texts[1])


@given(st.binary(max_size=64), st.binary(max_size=64), st.binary(max_size=64))
def test_the_text_says_what_it_is_for(nonce: bytes, server: bytes, csr: bytes) -> None:
    """A signature made for anything else that this key ever signs is no proof of registration."""
    text = signed_text(nonce=nonce, server_certificate_der=server, csr_der=csr)

    assert text.startswith(b"ct-ops-register-1")
    assert len(b"ct-ops-register-1") + len(nonce) + 64 == len(text)
