"""Whoever signs leaves: a certificate, the chain above it, and its private key.

Ours is a self-signed root in two files (``root``). An operator's may be one too, or an intermediate below a root
of theirs. Existing agents present their leaf alone, so the whole chain up to a self-signed root is needed here:
OpenSSL builds it from its store, and no partial chains are believed (rule 1).

What an operator brings is looked at when it comes, not when the first agent fails: ``defect_of`` is the list.

Out of scope: where it is kept (``keyring``) and which one signs (``life_cycle``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.name_constraints import constraint_broken
from ct_ops_server.authority.sealing import SealingSecret, parse_key, seal

CaKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

MIN_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_GOOD_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_CLIENT_USES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for a certificate that is damaged or absurd."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An agent CA that can sign."""

    origin: Path
    """Where it came from, for error sentences."""
    chain: tuple[x509.Certificate, ...]
    """The one that signs first, then upward to the root."""
    key: CaKey = field(repr=False)
    made: tuple[str, ...] = ()
    """A sentence for each file that was made just now."""

    @property
    def certificate(self) -> x509.Certificate:
        """The one that signs."""
        return self.chain[0]

    @property
    def pem(self) -> str:
        """The whole chain."""
        return chain_pem(self.chain)

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the signing certificate's DER, 32 bytes: its name."""
        return sha256_of(self.certificate)

    def check_dates(self, now: datetime) -> None:
        """Raise ``AuthorityError`` unless every certificate of the chain is valid now."""
        start, end = dates_of(self.chain)
        if not start <= now < end:
            raise AuthorityError(
                self.origin,
                f"is valid from {start.isoformat()} to {end.isoformat()}, and this host's clock says "
                f"{now.isoformat(timespec='seconds')}. Set the clock, or replace the CA.",
            )


def dates_of(chain: Sequence[x509.Certificate]) -> tuple[datetime, datetime]:
    """Return from when to when the whole chain is valid."""
    return max(each.not_valid_before_utc for each in chain), min(each.not_valid_after_utc for each in chain)


def sha256_of(certificate: x509.Certificate) -> bytes:
    """Return what an agent CA is known by."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def signs_as(certificate: x509.Certificate) -> bytes:
    """Return what its leaves can tell of a CA: name and key. A renewed certificate of one has the same."""
    try:
        spki = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return certificate.subject.public_bytes() + spki
    except UNREADABLE:  # one that was recognised before such were refused: like no other
        return sha256_of(certificate)


def name_of(certificate: x509.Certificate) -> str:
    """Return what a certificate is called, also when it has no name or one that cannot be read."""
    try:
        return certificate.subject.rfc4514_string() or "a certificate without a name"
    except UNREADABLE:
        return "a certificate whose name cannot be read"


def chain_pem(chain: Sequence[x509.Certificate]) -> str:
    """Return certificates as PEM, in their order."""
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in chain)


def parse_chain(pem: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a stored chain. Raises ``ValueError`` when there is none."""
    return tuple(x509.load_pem_x509_certificates(pem.encode()))


def sealed_key_of(issuer: Issuer, secret: SealingSecret) -> str:
    """Return its private key sealed, to be stored."""
    return seal(issuer.key, secret).decode()


def open_stored(chain_text: str, sealed_key: str, secret: SealingSecret) -> Issuer:
    """Return an agent CA as it was stored.

    Raises:
        WrongSecretError: its key is sealed with another secret.
        AuthorityError: it is damaged.
    """
    chain = parse_chain(chain_text)
    origin = Path(f"agent CA {sha256_of(chain[0]).hex()[:16]} in the database")
    return _issuer(origin, chain, parse_key(origin, sealed_key.encode(), secret))


def open_brought(origin: Path, certificates_pem: bytes, key_pem: bytes, secret: SealingSecret) -> Issuer:
    """Return an agent CA that an operator brings.

    Args:
        origin: what it is called in error sentences.
        certificates_pem: the signing certificate, and the chain above it in any order.
        key_pem: its private key, sealed with our secret or not at all.
        secret: opens it in the first case.

    Raises:
        AuthorityError: something of it cannot be used; the sentence says what.
    """
    try:
        certificates = x509.load_pem_x509_certificates(certificates_pem)
    except ValueError as error:
        raise AuthorityError(origin, "holds no certificate in PEM form. Name a PEM file.") from error
    key = parse_key(origin, key_pem, secret)
    chain = _ordered(origin, certificates, key)
    return _issuer(origin, chain, key)


def must_be_usable(issuer: Issuer, now: datetime) -> None:
    """Refuse an agent CA whose leaves would be worth nothing.

    Raises:
        AuthorityError: says what is wrong with it.
    """
    if (defect := defect_of(issuer.chain, now)) is not None:
        raise AuthorityError(issuer.origin, defect)


def defect_of(chain: Sequence[x509.Certificate], now: datetime) -> str | None:
    """Return what keeps a chain from certifying agents, as the end of a sentence; None when nothing does."""
    for below, certificate in enumerate(chain):
        if (defect := _defect_or_oddity(certificate, below=below)) is not None:
            return f"{defect} (of {name_of(certificate)})."
    for lower, upper in zip(chain, [*chain[1:], chain[-1]], strict=True):
        if not is_issued_by(lower, upper):
            return (
                "does not reach a self-signed root: existing agents send their leaf alone, so the root and every "
                "certificate between belong into this file too."
            )
    start, end = dates_of(chain)
    if now >= end:
        return f"has expired at {end.isoformat()}. Bring one that has not."
    if now < start:
        return f"is not valid before {start.isoformat()}. Set the clock, or wait."
    return None


def _defect_or_oddity(certificate: x509.Certificate, *, below: int) -> str | None:
    try:
        certificate.subject.rfc4514_string()
        if certificate.serial_number <= 0:  # the library says that it will not read such any more
            return "has a serial number that is not positive"
        return _defect_of_one(certificate, below=below)
    except UNREADABLE as error:
        return f"holds a certificate that cannot be read ({error}): have it issued again"


def _defect_of_one(certificate: x509.Certificate, *, below: int) -> str | None:
    extensions = certificate.extensions
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return "is no CA: it has no basic constraints"
    if not constraints.ca:
        return "is no CA: its basic constraints say so"
    if constraints.path_length is not None and constraints.path_length < below:
        return f"allows a path length of {constraints.path_length}, and {below} CAs are below it"
    return _weak(certificate) or _wrong_use(extensions) or constraint_broken(certificate)


def _weak(certificate: x509.Certificate) -> str | None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            return f"has a weak key: RSA of {key.key_size} bits, at least {MIN_RSA_BITS} are needed"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            return f"has a key on the curve {key.curve.name}; P-256, P-384 and P-521 are accepted"
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        return "has a key that is neither RSA nor elliptic"
    digest = certificate.signature_hash_algorithm
    if digest is not None and not isinstance(digest, _GOOD_HASHES):
        return f"is signed with {digest.name}, which proves nothing any more"
    return None


def _wrong_use(extensions: x509.Extensions) -> str | None:
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        pass
    else:
        if not usage.key_cert_sign:
            return "may not sign certificates: its key usage lacks keyCertSign"
    try:
        uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    if not any(use in _CLIENT_USES for use in uses):
        return "may not certify clients: its extended key usage lacks clientAuth"
    return None


def _ordered(
    origin: Path, certificates: Sequence[x509.Certificate], key: PrivateKeyTypes
) -> tuple[x509.Certificate, ...]:
    """Return the chain upward, from the certificate of ``key``; what is not part of it is left out."""
    signing = next((each for each in certificates if each.public_key() == key.public_key()), None)
    if signing is None:
        raise AuthorityError(
            origin, "holds no certificate of the private key beside it. Name the pair that belongs together."
        )
    return chain_upward(signing, certificates)


def chain_upward(
    lowest: x509.Certificate, certificates: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Return a certificate and those above it, as far as they are there; a self-signed one ends it."""
    chain = [lowest]
    while (above := _above(chain, certificates)) is not None:
        chain.append(above)
    return tuple(chain)


def _above(
    chain: Sequence[x509.Certificate], certificates: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    if is_issued_by(chain[-1], chain[-1]):
        return None
    return next((each for each in certificates if each not in chain and is_issued_by(chain[-1], each)), None)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether ``issuer`` signed it, by name and key."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _issuer(origin: Path, chain: tuple[x509.Certificate, ...], key: PrivateKeyTypes) -> Issuer:
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise AuthorityError(origin, "has a private key that is neither RSA nor elliptic.")
    if chain[0].public_key() != key.public_key():
        raise AuthorityError(
            origin, "does not belong to the key beside it. Restore both from the same backup."
        )
    return Issuer(origin, chain, key)
