"""Keys and requests as agents make them."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

AgentKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
MakeCsr = Callable[[AgentKey], bytes]


def make_csr_der(key: AgentKey) -> bytes:
    """Return the request an existing agent would make: its name says nothing."""
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ct-ops-agent")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.DER)
