"""What only enrolment needs `cryptography` for: a key, a CSR, a look into a certificate.

Import this module late: it costs an enrolled daemon 10 MiB that it has no use for.
"""

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ct_ops_agent.identity.keystore import KeyPair, parse_pem

_CSR_NAME = "ct-ops-agent"
"""What existing agents write: the server names the agent, never the CSR."""


def make_key_pair() -> KeyPair:
    """Make an Ed25519 key pair with the system's random numbers."""
    private = Ed25519PrivateKey.generate()
    return KeyPair(private.private_bytes_raw(), private.public_key().public_bytes_raw())


def public_key_of(seed: bytes) -> bytes:
    """Return the public half of a private key."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def make_csr(keys: KeyPair) -> bytes:
    """Return a certificate signing request (PKCS#10, DER), signed with the key it asks for."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _CSR_NAME)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(Ed25519PrivateKey.from_private_bytes(keys.seed), None).public_bytes(Encoding.DER)


def sign(keys: KeyPair, text: bytes) -> bytes:
    """Return the key's signature over a text (RFC 8032)."""
    return Ed25519PrivateKey.from_private_bytes(keys.seed).sign(text)


@dataclass(frozen=True)
class LeafLife:
    """When a leaf begins and ends. Seconds since 1970."""

    not_before_unix: int
    not_after_unix: int


def leaf_life(leaf_pem: str, keys: KeyPair) -> LeafLife:
    """Check that a leaf is about our key and return its dates.

    Raises:
        ValueError: it is no certificate, or about another key.
    """
    leaf = x509.load_pem_x509_certificate(leaf_pem.encode())
    try:
        public = leaf.public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError("the certificate's key is of an unknown kind") from error
    if not isinstance(public, Ed25519PublicKey) or public.public_bytes_raw() != keys.public:
        raise ValueError("the certificate is about another key than this agent's")
    return LeafLife(int(leaf.not_valid_before_utc.timestamp()), int(leaf.not_valid_after_utc.timestamp()))


def names_agent(leaf_pem: str, agent_id: str) -> bool:
    """Tell whether a leaf is about this agent: its name, and nobody else's, is in it.

    Raises:
        ValueError: it is no certificate.
    """
    names = _alternative_names(x509.load_pem_x509_certificate(leaf_pem.encode()))
    found = [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)
    return [uri.rpartition("/agent/")[2] for uri in found] == [agent_id]


@dataclass(frozen=True)
class LeafFacts:
    """What a leaf says about itself, for people."""

    subject: str
    issuer: str
    serial: str
    """Hex, as ``openssl x509 -serial`` prints it, in lower case."""

    not_before_unix: float
    not_after_unix: float


def describe_leaf(leaf_pem: str) -> LeafFacts:
    """Return what a leaf says about itself.

    Raises:
        ValueError: it is no certificate.
    """
    leaf = x509.load_pem_x509_certificate(leaf_pem.encode())
    return LeafFacts(
        subject=leaf.subject.rfc4514_string(),
        issuer=leaf.issuer.rfc4514_string(),
        serial=f"{leaf.serial_number:x}",
        not_before_unix=leaf.not_valid_before_utc.timestamp(),
        not_after_unix=leaf.not_valid_after_utc.timestamp(),
    )


def is_authority(der: bytes) -> bool:
    """Whether a certificate (DER) is a CA's."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False


@dataclass(frozen=True)
class AnchorFacts:
    """What a believed certificate says about itself, for people."""

    subject: str
    sha256: str
    not_after_unix: float


def describe_anchors(bundle_pem: str) -> tuple[AnchorFacts, ...]:
    """Return what the certificates of a trust bundle say; one that cannot be read is named by its digest only."""
    return tuple(_describe_anchor(der) for label, der in parse_pem(bundle_pem) if label == "CERTIFICATE")


def _describe_anchor(der: bytes) -> AnchorFacts:
    sha256 = hashlib.sha256(der).hexdigest()
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        return AnchorFacts("", sha256, 0)
    return AnchorFacts(
        certificate.subject.rfc4514_string(), sha256, certificate.not_valid_after_utc.timestamp()
    )


def names_of(certificate_pem: str) -> tuple[str, ...]:
    """Return the names a server certificate is good for, most specific first, its common name last.

    Raises:
        ValueError: it is no certificate.
    """
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    alternative = _alternative_names(certificate)
    if alternative is None:
        return tuple(
            str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        )
    addresses = alternative.get_values_for_type(x509.IPAddress)
    return (*alternative.get_values_for_type(x509.DNSName), *(str(address) for address in addresses))


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
