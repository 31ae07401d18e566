"""What ``ca recognise FILE`` takes: one foreign agent CA, with those above it, and nothing that would be of no use.

Every recognised CA is shown to OpenSSL at each handshake and to operators at each look, so a certificate that some
library cannot read is refused here and not found out there. OpenSSL believes no partial chains (rule 1): an
intermediate needs its root, in the file or known already. And a file of many CAs is somebody's trust store: to
recognise the whole of it would have every one of them prove keys of agents.

Dates are not looked at: what leaves of an ended CA prove is their key.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from ct_ops_server.authority.issuer import UNREADABLE, chain_upward, is_issued_by, name_of

_NAME_ONE = "name an agent's agent_ca.pem"


class NotRecognisedError(Exception):
    """The file is not recognised. ``str()`` says why and what to do."""


def recognisable(pem: str, known: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return the agent CA in a file, then upward to its root.

    Args:
        pem: what the file holds.
        known: certificates that are known already, which may lie above it.

    Raises:
        NotRecognisedError: it holds none, several, or one that would be of no use.
    """
    certificates = _parse(pem)
    for number, certificate in enumerate(certificates, start=1):
        _must_be_readable(certificate, number)
    lowest = _lowest(certificates)
    if len(lowest) > 1:
        raise NotRecognisedError(
            f"the file holds {len(lowest)} CAs that have nothing to do with each other, and each of them would prove "
            f"keys of agents: give the one that signed these agents' leaves, alone or with those above it ({_NAME_ONE})"
        )
    chain = chain_upward(lowest[0], [*certificates, *known])
    if not is_issued_by(chain[-1], chain[-1]):
        raise NotRecognisedError(
            f"{name_of(chain[-1])} is signed by {chain[-1].issuer.rfc4514_string()}, which is neither in the file nor "
            "known: no handshake believes it without its root. Put every certificate up to the root into the file"
        )
    return chain


def _parse(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except UNREADABLE:
        raise NotRecognisedError(f"the file holds no certificate in PEM form: {_NAME_ONE}") from None


def _must_be_readable(certificate: x509.Certificate, number: int) -> None:
    try:
        certificate.subject.rfc4514_string()
        certificate.issuer.rfc4514_string()
        certificate.public_key()
        certificate.not_valid_before_utc, certificate.not_valid_after_utc  # noqa: B018  looked at, not used
        is_ca = _is_ca(certificate)
        if certificate.serial_number <= 0:  # the library says that it will not read such any more
            raise ValueError("its serial number is not positive")
    except UNREADABLE as error:
        raise NotRecognisedError(
            f"certificate {number} of the file cannot be read ({error}), so nobody could tell what it proves: have "
            "it issued again"
        ) from error
    if not is_ca:
        raise NotRecognisedError(f"{name_of(certificate)} is no CA's certificate: {_NAME_ONE}")


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _lowest(certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return those that signed none of the others; of several of one key and name the first."""
    lowest: list[x509.Certificate] = []
    for each in dict.fromkeys(certificates):
        signed = [other for other in certificates if is_issued_by(other, each)]
        if all(is_issued_by(each, other) for other in signed) and not any(
            is_issued_by(each, other) for other in lowest
        ):
            lowest.append(each)
    return lowest
