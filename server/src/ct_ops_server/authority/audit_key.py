"""The key that signs how far the audit log reaches: Ed25519, for nothing else, sealed in the data directory.

Its public half lies beside it in the clear, to be copied to wherever the log is verified.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_server.authority import files
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.sealing import SealingSecret, load_or_create_key

KEY_FILE = "audit.key"
PUBLIC_FILE = "audit.pub"


@dataclass(frozen=True, slots=True)
class AuditKey:
    """The key, and its public half in PEM form."""

    key: Ed25519PrivateKey = field(repr=False)
    public_pem: bytes
    made: tuple[str, ...] = ()
    """A sentence when it was made just now."""


def load_or_create_audit_key(data_dir: Path, secret: SealingSecret) -> AuditKey:
    """Return the key, making it when there is none; its public half is put back when it is gone.

    Raises:
        AuthorityError: it cannot be read or written, or is no Ed25519 key.
    """
    stored = load_or_create_key(data_dir / KEY_FILE, secret, Ed25519PrivateKey.generate)
    if not isinstance(stored.key, Ed25519PrivateKey):
        raise AuthorityError(stored.file, "is no Ed25519 key. Restore it from a backup.")
    public_pem = stored.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if files.load_private(data_dir / PUBLIC_FILE) != public_pem:
        files.replace_private(data_dir / PUBLIC_FILE, public_pem)
    sentence = f"{stored.file}: the key that signs the audit log. Copy {PUBLIC_FILE} to where it is verified."
    return AuditKey(stored.key, public_pem, (sentence,) if stored.made else ())
