"""The agent CA: made once, kept sealed, and its leaves say what they should."""

from __future__ import annotations

import hashlib
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ct_ops_server.authority.ca import Authority, load_or_create_authority
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.public_key import PublicKey
from ct_ops_server.authority.sealing import SealingSecret, load_key, load_or_create_secret
from unit.server.authority.agent_keys import AgentKey

_SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_the_agent_ca_is_p256_for_ten_years_and_signs_leaves_only(authority: Authority) -> None:
    """The CA certificate is what existing agents expect, and nothing can be signed below its leaves."""
    certificate = authority.certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    key = certificate.public_key()

    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert "secp256r1" == key.curve.name
    assert "CN=CT-Ops Agent CA" == certificate.subject.rfc4514_string()
    assert constraints.critical
    assert constraints.value.ca
    assert 0 == constraints.value.path_length
    assert usage.key_cert_sign
    assert not usage.digital_signature
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert timedelta(days=3650) < life < timedelta(days=3655)
    certificate.verify_directly_issued_by(certificate)


def test_the_agent_ca_is_the_same_at_the_next_start(
    authority: Authority, data_dir: Path, secret: SealingSecret, now: datetime
) -> None:
    """A second start loads what the first one made and reports nothing new."""
    again = load_or_create_authority(data_dir, secret, now=now + timedelta(days=1))

    assert authority.pem == again.pem
    assert authority.sha256 == again.sha256
    assert 1 == len(authority.made)
    assert () == again.made


@pytest.mark.parametrize("name", ["agent-ca.crt", "agent-ca.key"])
def test_the_files_of_the_ca_are_private(authority: Authority, data_dir: Path, name: str) -> None:
    """Both files are 0600 and the key is sealed."""
    assert 0o600 == stat.S_IMODE((data_dir / name).stat().st_mode)
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (data_dir / "agent-ca.key").read_bytes()


def test_a_leaf_says_who_the_agent_is(
    authority: Authority, agent_key: AgentKey, public_key: PublicKey, now: datetime
) -> None:
    """Name, URI, usage, key and identifiers of a leaf are as the wire and rule 1 want them."""
    issued = authority.issue_leaf(public_key, "agent-1", "inst-1", now=now)
    leaf = x509.load_pem_x509_certificate(issued.pem.encode())
    extensions = leaf.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    issuer_key = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    issuer_ski = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value

    leaf.verify_directly_issued_by(authority.certificate)
    assert [x509.UniformResourceIdentifier("spiffe://ct-ops/org/inst-1/agent/agent-1")] == list(names)
    assert "agent-1" == leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [ExtendedKeyUsageOID.CLIENT_AUTH] == list(usages)
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert issuer_ski.digest == issuer_key.key_identifier
    assert agent_key.public_key().public_bytes(*_SPKI) == leaf.public_key().public_bytes(*_SPKI)


def test_what_is_reported_of_a_leaf_is_what_it_says(
    authority: Authority, public_key: PublicKey, now: datetime
) -> None:
    """Serial, dates and digest in the record are those of the certificate."""
    issued = authority.issue_leaf(public_key, "agent-1", "inst-1", now=now)
    leaf = x509.load_der_x509_certificate(issued.der)

    assert leaf.public_bytes(serialization.Encoding.PEM).decode() == issued.pem
    assert leaf.serial_number == int(issued.serial_hex, 16)
    assert leaf.not_valid_before_utc == issued.not_before == now - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == issued.not_after == now + timedelta(days=90)
    assert hashlib.sha256(issued.der).digest() == issued.sha256


def test_serials_are_random(authority: Authority, public_key: PublicKey, now: datetime) -> None:
    """Two leaves of one agent in one second are two certificates."""
    serials = {authority.issue_leaf(public_key, "agent-1", "inst-1", now=now).serial_hex for _ in range(3)}

    assert 3 == len(serials)


def test_a_leaf_never_outlives_its_ca(authority: Authority, public_key: PublicKey) -> None:
    """In the CA's last days its leaves end with it."""
    end = authority.certificate.not_valid_after_utc

    issued = authority.issue_leaf(public_key, "agent-1", "inst-1", now=end - timedelta(days=10))

    assert end == issued.not_after


@pytest.mark.parametrize("days", [-1, 3653])
def test_a_ca_outside_its_dates_signs_nothing(
    authority: Authority, public_key: PublicKey, now: datetime, days: int
) -> None:
    """With an ended CA, or a clock before its beginning, issuing is an error that tells both dates."""
    with pytest.raises(AuthorityError, match="this host's clock says"):
        authority.issue_leaf(public_key, "agent-1", "inst-1", now=now + timedelta(days=days))


def test_attack_an_id_with_a_slash_is_never_signed(
    authority: Authority, public_key: PublicKey, now: datetime
) -> None:
    """An agent id cannot smuggle another path into the SPIFFE name."""
    with pytest.raises(ValueError, match="SPIFFE"):
        authority.issue_leaf(public_key, "x/agent/victim", "inst-1", now=now)


def test_a_certificate_without_its_key_stops_the_start(
    authority: Authority, data_dir: Path, secret: SealingSecret, now: datetime
) -> None:
    """A lost CA key is never replaced by a new one behind the operator's back."""
    (data_dir / "agent-ca.key").unlink()

    with pytest.raises(AuthorityError, match="Restore it from a backup"):
        load_or_create_authority(data_dir, secret, now=now)

    assert not (data_dir / "agent-ca.key").exists()


def test_a_crash_between_key_and_certificate_is_mended(
    authority: Authority, data_dir: Path, secret: SealingSecret, now: datetime
) -> None:
    """A key alone gets a certificate of the same name, so that leaves signed by it still verify."""
    (data_dir / "agent-ca.crt").unlink()

    mended = load_or_create_authority(data_dir, secret, now=now)

    assert authority.certificate.public_key() == mended.certificate.public_key()
    assert authority.certificate.subject == mended.certificate.subject


def test_a_key_of_another_ca_stops_the_start(
    authority: Authority, data_dir: Path, secret: SealingSecret, now: datetime, tmp_path: Path
) -> None:
    """Half a restored backup is noticed."""
    (tmp_path / "other").mkdir()
    load_or_create_authority(tmp_path / "other", secret, now=now)
    (tmp_path / "other" / "agent-ca.key").replace(data_dir / "agent-ca.key")

    with pytest.raises(AuthorityError, match="does not belong to the key"):
        load_or_create_authority(data_dir, secret, now=now)


def test_a_damaged_certificate_stops_the_start(
    authority: Authority, data_dir: Path, secret: SealingSecret, now: datetime
) -> None:
    """A CA certificate that cannot be read is never replaced."""
    (data_dir / "agent-ca.crt").write_text("no certificate")

    with pytest.raises(AuthorityError, match="holds no certificate"):
        load_or_create_authority(data_dir, secret, now=now)


def test_a_key_of_another_kind_stops_the_start(
    authority: Authority, data_dir: Path, tmp_path: Path, secret: SealingSecret, now: datetime
) -> None:
    """An Ed25519 key in the CA's place is an error, not a crash while signing."""
    (data_dir / "agent-ca.key").write_bytes(_ED25519_KEY)

    with pytest.raises(AuthorityError, match="no elliptic curve key"):
        load_or_create_authority(data_dir, secret, now=now)


def test_the_ca_key_opens_with_its_secret_only(authority: Authority, data_dir: Path, tmp_path: Path) -> None:
    """A stolen data directory without the secret gives no key."""
    (tmp_path / "guess").write_text("0" * 64)

    with pytest.raises(AuthorityError, match="another secret"):
        load_key(data_dir / "agent-ca.key", load_or_create_secret(tmp_path / "guess"))


_ED25519_KEY = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
"""
