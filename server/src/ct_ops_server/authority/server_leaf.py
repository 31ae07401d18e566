"""The certificate that a server CA of ours signs for this server: when one is due, and what is in it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ct_ops_server.authority.issuer import is_issued_by
from ct_ops_server.authority.root import BACKDATED, Root

LIFETIME = timedelta(days=397)
"""What browsers still accept."""

_MAX_COMMON_NAME = 64
_SERVER_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def reason_to_issue(
    old: x509.Certificate | None,
    *,
    root: x509.Certificate,
    key: ec.EllipticCurvePublicKey,
    names: Sequence[str],
    now: datetime,
) -> str | None:
    """Return why a certificate must be issued, None when the old one still serves."""
    if old is None:
        return "there was none"
    if old.public_key() != key or not is_issued_by(old, root):
        return "the old one was of another key or CA"
    if now < old.not_valid_before_utc:
        return "the old one was not valid yet: this host's clock has gone back"
    life = old.not_valid_after_utc - old.not_valid_before_utc
    if old.not_valid_after_utc - now < life / 3:
        return "less than a third of the old one's life was left"
    missing = [name for name in names if name not in _names_of(old)]
    return f"the old one lacked {', '.join(missing)}" if missing else None


def make_server_certificate(
    root: Root, key: ec.EllipticCurvePublicKey, names: Sequence[str], *, now: datetime
) -> x509.Certificate:
    """Return a certificate for these names, signed by ``root`` and never outliving it."""
    second = now.astimezone(UTC).replace(microsecond=0)
    ski = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _display_name(names))]))
        .issuer_name(root.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(second - BACKDATED)
        .not_valid_after(min(second + LIFETIME, root.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SERVER_ONLY, critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
        .sign(root.key, hashes.SHA256())
    )


def _names_of(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(str(name.value) for name in names)


def _display_name(names: Sequence[str]) -> str:
    """Return what people see as the certificate's name: the first DNS name, else the first address."""
    fitting = [name for name in names if len(name) <= _MAX_COMMON_NAME]
    return next(
        (name for name in fitting if isinstance(_general_name(name), x509.DNSName)),
        names[0][:_MAX_COMMON_NAME],
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
