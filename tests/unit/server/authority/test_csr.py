"""A CSR gives its key when that key signed it, and nothing else."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ct_ops_server.authority.csr import MAX_DER_BYTES, parse_csr
from ct_ops_server.authority.public_key import KeyRefusal, KeyRefusedError, PublicKey, canonical_public_key
from unit.server.authority.agent_keys import AgentKey, MakeCsr


@pytest.fixture
def csr_der(agent_key: AgentKey, make_csr: MakeCsr) -> bytes:
    return make_csr(agent_key)


def _reason(der: bytes, expected: PublicKey | None = None) -> KeyRefusal:
    with pytest.raises(KeyRefusedError) as caught:
        parse_csr(der, expected=expected)
    assert str(caught.value).endswith(".")
    return caught.value.reason


def test_a_csr_gives_the_key_that_signed_it(
    agent_key: AgentKey, public_key: PublicKey, make_csr: MakeCsr
) -> None:
    """The canonical key of a good request is returned, whatever name the request carries."""
    assert public_key == parse_csr(make_csr(agent_key), expected=public_key).public_key


def test_attack_a_csr_with_a_wrong_signature_is_refused(agent_key: AgentKey, make_csr: MakeCsr) -> None:
    """A request that its key did not sign comes from somebody who does not hold the key."""
    der = bytearray(make_csr(agent_key))
    name = der.index(b"ct-ops-agent")
    der[name] ^= 1

    assert KeyRefusal.CSR_SIGNATURE == _reason(bytes(der))


def test_attack_a_csr_for_another_key_is_refused(agent_key: AgentKey, make_csr: MakeCsr) -> None:
    """A request for another key than the one beside it is refused, also when it is well signed."""
    other = canonical_public_key(ed25519.Ed25519PrivateKey.generate().public_key())

    assert KeyRefusal.KEY_MISMATCH == _reason(make_csr(agent_key), other)


def test_a_csr_over_4_kib_is_refused_before_parsing() -> None:
    """The limit is checked first."""
    assert KeyRefusal.TOO_LARGE == _reason(bytes(MAX_DER_BYTES + 1))


@pytest.mark.parametrize("curve", [ec.SECP384R1(), None])
def test_a_csr_for_another_kind_of_key_is_refused(
    curve: ec.EllipticCurve | None, rsa_key: rsa.RSAPrivateKey
) -> None:
    """RSA and other curves are refused as kinds, not as damage."""
    key = rsa_key if curve is None else ec.generate_private_key(curve)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())

    assert KeyRefusal.KEY_KIND == _reason(request.public_bytes(serialization.Encoding.DER))


@pytest.mark.parametrize("cut", [0, 1, 50, -1])
def test_a_truncated_csr_is_malformed(agent_key: AgentKey, make_csr: MakeCsr, cut: int) -> None:
    """A request that lost its end, or all of it, is damaged."""
    assert KeyRefusal.CSR_MALFORMED == _reason(make_csr(agent_key)[:cut])


def test_a_csr_with_something_behind_it_is_malformed(agent_key: AgentKey, make_csr: MakeCsr) -> None:
    """Trailing bytes are refused: the bytes that are hashed are the request and nothing more."""
    assert KeyRefusal.CSR_MALFORMED == _reason(make_csr(agent_key) + b"\0")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_attack_a_csr_with_any_byte_changed_is_refused(
    data: st.DataObject, csr_der: bytes, public_key: PublicKey
) -> None:
    """Fuzzing a request gives a typed refusal and never another error."""
    der = bytearray(csr_der)
    place = data.draw(st.integers(0, len(der) - 1))
    der[place] ^= data.draw(st.integers(1, 255))

    _reason(bytes(der), public_key)
