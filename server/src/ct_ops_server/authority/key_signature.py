"""Whether a key made a signature: Ed25519 (RFC 8032), or ECDSA P-256 over SHA-256 in DER form."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ct_ops_server.authority.public_key import PublicKey


def signed_by(key: PublicKey, signature: bytes, text: bytes) -> bool:
    """Return whether ``signature`` over ``text`` is this key's."""
    public = load_der_public_key(key.spki_der)
    try:
        match public:
            case ed25519.Ed25519PublicKey():
                public.verify(signature, text)
            case ec.EllipticCurvePublicKey():
                public.verify(signature, text, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
