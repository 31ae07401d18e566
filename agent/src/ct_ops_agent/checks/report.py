"""A report on certificates, for people and for the certificate pages of servers. Pure.

The names of its fields and the prefixes of alternative names (``DNS:``, ``IP:``, ``email:``, ``URI:``) are part of
what servers read. Certificates come from anywhere: what one of its fields cannot be read leaves that field empty,
and lists are cut, so that the report stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from ct_ops_agent.checks.verdict import MAX_OUTPUT_CHARS, Verdict, clean, failed, passed

T = TypeVar("T")

MAX_NAMES = 100
MAX_TEXT = 256
_FEW_NAMES = 20
_DAY_S = 86_400


def parse_der(chain: Sequence[bytes]) -> list[x509.Certificate]:
    """Return the certificates of a chain; what cannot be read ends it.

    Raises:
        ValueError: the first one cannot be read, or there is none.
    """
    parsed: list[x509.Certificate] = []
    for der in chain:
        try:
            parsed.append(x509.load_der_x509_certificate(der))
        except ValueError:
            if not parsed:
                raise
            break
    if not parsed:
        raise ValueError("no certificate was presented")
    return parsed


def judge(
    chain: Sequence[x509.Certificate], *, min_days_left: int, now_unix: float, origin: dict[str, Any]
) -> Verdict:
    """Return the verdict on the first certificate, with the report as its output."""
    leaf = chain[0]
    problem = validity_problem(leaf, min_days_left=min_days_left, now_unix=now_unix)
    report = {
        **describe(leaf),
        "days_left": _days_left(leaf, now_unix),
        "problem": problem,
        **origin,
        "chain": [describe(issuer) for issuer in chain[1:]],
    }
    text = _fitting(report)
    return failed(text) if problem else passed(text)


def validity_problem(certificate: x509.Certificate, *, min_days_left: int, now_unix: float) -> str:
    """Return what is wrong with the dates; empty: nothing."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now_unix < begins.timestamp():
        return f"not valid before {_shown(begins)}"
    if now_unix >= ends.timestamp():
        return f"expired on {_shown(ends)}"
    if now_unix + min_days_left * _DAY_S >= ends.timestamp():
        return f"expires on {_shown(ends)}, in less than {min_days_left} days"
    return ""


def describe(certificate: x509.Certificate) -> dict[str, Any]:
    """Return what a certificate says of itself."""
    return {
        "common_name": _text(lambda: _common_name(certificate.subject)),
        "subject": _text(lambda: _written(certificate.subject)),
        "issuer": _text(lambda: _written(certificate.issuer)),
        "sans": _read(lambda: list(alternative_names(certificate)), list[str]()),
        "not_before": _shown(certificate.not_valid_before_utc),
        "not_after": _shown(certificate.not_valid_after_utc),
        "fingerprint_sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "serial_number": _text(lambda: f"{certificate.serial_number:x}"),
        "signature_algorithm": _text(lambda: _signature(certificate)),
        "key_algorithm": _text(lambda: _key(certificate)),
    }


def alternative_names(certificate: x509.Certificate) -> Iterator[str]:
    """Yield the alternative names with their prefixes."""
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    for name in list(extension.value)[:MAX_NAMES]:
        match name:
            case x509.DNSName():
                yield clean(f"DNS:{name.value}"[:MAX_TEXT])
            case x509.IPAddress():
                yield f"IP:{name.value}"
            case x509.RFC822Name():
                yield clean(f"email:{name.value}"[:MAX_TEXT])
            case x509.UniformResourceIdentifier():
                yield clean(f"URI:{name.value}"[:MAX_TEXT])


def _fitting(report: dict[str, Any]) -> str:
    """Return the report as JSON that is whole: rather less of it than an end cut off."""
    text = msgspec.json.encode(report).decode()
    if len(text) <= MAX_OUTPUT_CHARS:
        return text
    shortened = {**report, "sans": report["sans"][:_FEW_NAMES], "chain": [], "is_shortened": True}
    return msgspec.json.encode(shortened).decode()


def _days_left(certificate: x509.Certificate, now_unix: float) -> int:
    return int((certificate.not_valid_after_utc.timestamp() - now_unix) // _DAY_S)


def _written(name: x509.Name) -> str:
    return name.rfc4514_string()


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _signature(certificate: x509.Certificate) -> str:
    oid = certificate.signature_algorithm_oid
    name: str = oid._name  # noqa: SLF001  the library has no other way to name one
    return oid.dotted_string if name == "Unknown OID" else name


def _key(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey() as key:
            return f"EC {key.curve.name}"
        case dsa.DSAPublicKey() as key:
            return f"DSA {key.key_size}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case other:
            return type(other).__name__.removeprefix("_").removesuffix("PublicKey")


def _text(read: Callable[[], str]) -> str:
    return clean(_read(read, "")[:MAX_TEXT])


def _read(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension):
        return otherwise
    except (x509.UnsupportedGeneralNameType, x509.InvalidVersion):
        return otherwise


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
