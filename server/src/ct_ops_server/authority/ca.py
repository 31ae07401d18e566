"""The agent CA: it signs the leaves that agents present, and nothing else.

A leaf's name is the server's decision, never the CSR's. What a leaf says, and why:

* CN is the agent id, for people; the SPIFFE URI is what is checked;
* clientAuth only: a leaf cannot pose as a server;
* valid from five minutes ago, because clocks differ, and never beyond the CA's own end;
* a random serial, so that revocation lists name one leaf and nobody can count the fleet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ct_ops_server.authority import files
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.issuer import Issuer, dates_of, sha256_of
from ct_ops_server.authority.public_key import PublicKey
from ct_ops_server.authority.root import (
    BACKDATED,
    RootName,
    load_or_create_root,
    load_root,
    make_root_certificate,
)
from ct_ops_server.authority.sealing import SealingSecret, load_key
from ct_ops_server.authority.spiffe import SpiffeName, format_uri

LEAF_LIFETIME = timedelta(days=90)

_NAME = RootName("agent-ca", "CT-Ops Agent CA", "the agent CA, which signs the agents' leaves for ten years")
_IssuingKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
_CLIENT_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
_SIGNS_ONLY = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class IssuedLeaf:
    """A leaf just signed."""

    pem: str
    der: bytes = field(repr=False)
    serial_hex: str
    """Lower-case hex without prefix."""
    not_before: datetime
    not_after: datetime
    sha256: bytes
    """SHA-256 of ``der``, 32 bytes."""


class Authority:
    """The agent CA of this installation, able to sign."""

    def __init__(self, issuer: Issuer, *, new_serial: Callable[[], int] = x509.random_serial_number) -> None:
        self._new_serial = new_serial
        # What is the same in every leaf is made once.
        self._issuer_key = _key_identifier(issuer.certificate)
        self._digest = None if isinstance(issuer.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        self.issuer = issuer
        self.certificate = issuer.certificate
        self.pem = issuer.pem
        """The certificate that signs, then the chain above it."""
        self.sha256 = issuer.sha256
        """SHA-256 of the CA certificate's DER form, 32 bytes."""
        self.not_after = dates_of(issuer.chain)[1]
        """When the first certificate of the chain ends."""
        self.made = issuer.made

    def issue_leaf(
        self,
        public_key: PublicKey,
        agent_id: str,
        installation_id: str,
        *,
        now: datetime,
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> IssuedLeaf:
        """Sign a leaf for an agent's key.

        Raises:
            ValueError: an id cannot be part of a SPIFFE name.
            AuthorityError: the CA itself is not valid now, so no leaf of it would be.
        """
        self.issuer.check_dates(now)
        uri = format_uri(SpiffeName(installation_id, agent_id))
        second = now.astimezone(UTC).replace(microsecond=0)  # X.509 knows no fractions
        end = min(second + lifetime, self.not_after)
        leaf = self._template(public_key, agent_id, uri, second - BACKDATED, end)
        der = leaf.public_bytes(serialization.Encoding.DER)
        return IssuedLeaf(
            pem=leaf.public_bytes(serialization.Encoding.PEM).decode(),
            der=der,
            serial_hex=f"{leaf.serial_number:x}",
            not_before=second - BACKDATED,
            not_after=end,
            sha256=hashlib.sha256(der).digest(),
        )

    def _template(
        self, public_key: PublicKey, agent_id: str, uri: str, not_before: datetime, not_after: datetime
    ) -> x509.Certificate:
        key = _library_key(public_key)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, agent_id)]))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(self._new_serial())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_SIGNS_ONLY, critical=True)
            .add_extension(_CLIENT_ONLY, critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._issuer_key, critical=False)
            .sign(self.issuer.key, self._digest)
        )


def load_or_create_authority(data_dir: Path, secret: SealingSecret, *, now: datetime) -> Authority:
    """Return the agent CA kept in ``data_dir`` (``agent-ca.crt``, ``agent-ca.key``), making what is missing.

    ``Authority.made`` says in sentences what was created.

    Raises:
        WrongSecretError: the key is sealed with another secret.
        AuthorityError: a file is damaged or unreadable, or the two do not belong together.
    """
    root = load_or_create_root(data_dir, _NAME, secret, now=now)
    return Authority(Issuer(root.file, (root.certificate,), root.key, root.made))


def load_authority(data_dir: Path, secret: SealingSecret) -> Issuer:
    """Return the agent CA whose certificate is kept in ``data_dir``.

    Raises:
        As ``load_or_create_authority``; also when its key is missing.
    """
    root = load_root(data_dir, _NAME, secret)
    return Issuer(root.file, (root.certificate,), root.key)


def key_on_disk(data_dir: Path, secret: SealingSecret) -> PrivateKeyTypes | None:
    """Return the private key kept in ``data_dir``, also when its certificate is missing.

    Raises:
        WrongSecretError, AuthorityError: as ``load_or_create_authority``.
    """
    return load_key(data_dir / f"{_NAME.stem}.key", secret)


def name_on_disk(data_dir: Path) -> str | None:
    """Return which agent CA's certificate is kept in ``data_dir``: its SHA-256 in hex.

    Raises:
        AuthorityError: the file is unreadable or holds no certificate.
    """
    file = data_dir / f"{_NAME.stem}.crt"
    if (pem := files.load_private(file)) is None:
        return None
    try:
        return sha256_of(x509.load_pem_x509_certificate(pem)).hex()
    except ValueError as error:
        raise AuthorityError(file, "holds no certificate in PEM form. Restore it from a backup.") from error


def erase_authority(data_dir: Path) -> None:
    """Remove the agent CA kept in ``data_dir``, its private key first.

    Raises:
        AuthorityError: it cannot be removed.
    """
    for suffix in ("key", "crt"):
        files.erase(data_dir / f"{_NAME.stem}.{suffix}")


def make_authority(*, now: datetime) -> Authority:
    """Return a new agent CA that is kept nowhere yet. Its name says when it was made, to tell it from others."""
    name = RootName(_NAME.stem, f"{_NAME.common_name} {now:%Y-%m-%d}", _NAME.purpose, key_in_name=True)
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(Issuer(Path("the new agent CA"), (make_root_certificate(key, name, now=now),), key))


def _key_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        ski = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(_issuing_key(certificate))
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def _issuing_key(certificate: x509.Certificate) -> _IssuingKey:
    key = certificate.public_key()
    if not isinstance(key, _IssuingKey):
        raise TypeError("an agent CA's key is RSA or elliptic")  # issuer.py lets no other through
    return key


def _library_key(public_key: PublicKey) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    key = serialization.load_der_public_key(public_key.spki_der)
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise TypeError(f"a {public_key.kind} key was expected")  # PublicKey is made by public_key.py only
    return key
