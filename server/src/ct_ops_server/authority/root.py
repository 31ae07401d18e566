"""A self-signed root: ``<name>.crt`` and ``<name>.key`` (sealed) in the data directory.

ECDSA P-256, ten years. The agent CA has path length zero: it signs leaves and nothing below it. It and the
server CA are made here the same way and are otherwise strangers: whoever may sign a server's name
must not be able to sign an agent's.

The key is stored before the certificate. A crash between the two leaves a key alone, and the next
start makes a certificate for that same key. A certificate alone cannot sign and is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from ct_ops_server.authority import files
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.sealing import SealingSecret, load_key, load_or_create_key

LIFETIME = timedelta(days=3652)
"""Ten years."""

BACKDATED = timedelta(minutes=5)
"""Everything signed is valid a little earlier than now: clocks differ."""

_KEY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class Root:
    """A certificate authority's certificate and the key that signs with it."""

    file: Path
    """Where the certificate is kept."""
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    made: tuple[str, ...] = ()
    """One sentence a file that was created just now."""

    def check_dates(self, now: datetime) -> None:
        """Raise ``AuthorityError`` when the certificate is not valid now: what it signs would not be either."""
        start, end = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        if not start <= now < end:
            raise AuthorityError(
                self.file,
                f"is valid from {start.isoformat()} to {end.isoformat()}, and this host's clock says "
                f"{now.isoformat(timespec='seconds')}. Set the clock, or replace the CA.",
            )

    @property
    def pem(self) -> str:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True, slots=True)
class RootName:
    """What tells one root from another: its files' stem, its common name, its purpose in a sentence."""

    stem: str
    common_name: str
    purpose: str
    key_in_name: bool = False
    """Append the beginning of the key's digest, so that two installations' roots are told apart."""
    path_length: int = 0
    """How many CAs may stand below it: one that is to vouch for its successor needs room for that."""


def load_or_create_root(directory: Path, name: RootName, secret: SealingSecret, *, now: datetime) -> Root:
    """Return the root kept in ``directory`` under ``name``, creating what is missing.

    Raises:
        WrongSecretError: the key is sealed with another secret.
        AuthorityError: a file is damaged or unreadable, or the two do not belong together.
    """
    key_file, certificate_file = directory / f"{name.stem}.key", directory / f"{name.stem}.crt"
    if files.load_private(certificate_file) is not None:
        return load_root(directory, name, secret)
    key = elliptic(key_file, load_or_create_key(key_file, secret, generate_key).key)
    certificate = make_root_certificate(key, name, now=now)
    if not files.create_private(certificate_file, certificate.public_bytes(serialization.Encoding.PEM)):
        return load_or_create_root(directory, name, secret, now=now)
    return Root(certificate_file, certificate, key, (f"{certificate_file}: {name.purpose}.",))


def load_root(directory: Path, name: RootName, secret: SealingSecret) -> Root:
    """Return the root kept in ``directory`` under ``name``, and make nothing.

    Raises:
        WrongSecretError, AuthorityError: as ``load_or_create_root``; also when a file of it is missing.
    """
    key_file, certificate_file = directory / f"{name.stem}.key", directory / f"{name.stem}.crt"
    if (pem := files.load_private(certificate_file)) is None:
        raise AuthorityError(certificate_file, "is missing. Restore it from a backup.")
    key = elliptic(key_file, load_key(key_file, secret))
    return Root(certificate_file, _matching_certificate(certificate_file, pem, key), key)


def make_root_certificate(
    key: ec.EllipticCurvePrivateKey, name: RootName, *, now: datetime, begins: datetime | None = None
) -> x509.Certificate:
    """Return a self-signed CA certificate for ``key``, valid for ``LIFETIME`` from now; ``begins`` dates it back."""
    public_key = key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _common_name(public_key, name))])
    ski = x509.SubjectKeyIdentifier.from_public_key(public_key)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - BACKDATED)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=name.path_length), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(ski, critical=False)
        .sign(key, hashes.SHA256())
    )


def generate_key() -> ec.EllipticCurvePrivateKey:
    """Return a new private key for a root."""
    return ec.generate_private_key(ec.SECP256R1())


def elliptic(path: Path, key: PrivateKeyTypes | None) -> ec.EllipticCurvePrivateKey:
    """Return a root's key as the sort that all of ours are.

    Raises:
        AuthorityError: it is missing, or of another sort.
    """
    if key is None:
        raise AuthorityError(path, "is missing, but its certificate is here. Restore it from a backup.")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(path, "is no elliptic curve key. Restore it from a backup.")
    return key


def _common_name(public_key: ec.EllipticCurvePublicKey, name: RootName) -> str:
    """Return the name; a certificate made again for the same key has the same one."""
    if not name.key_in_name:
        return name.common_name
    spki = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"{name.common_name} {hashlib.sha256(spki).hexdigest()[:8]}"


def _matching_certificate(path: Path, pem: bytes, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        matches = certificate.public_key() == key.public_key()
    except ValueError as error:
        raise AuthorityError(path, "holds no certificate in PEM form. Restore it from a backup.") from error
    if not matches:
        raise AuthorityError(path, "does not belong to the key beside it. Restore both from the same backup.")
    return certificate
