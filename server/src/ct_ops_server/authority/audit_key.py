"""The key that signs how far the audit log reaches: Ed25519, for nothing else, sealed in the data directory.

Its public half lies beside it in the clear, to be copied to wherever the log is verified. When a key was lost the server signs with
a new one; ``audit.pub`` keeps the public halves of those before behind it, for heads that they signed stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ct_ops_server.audit.heads import key_name, parse_public_keys
from ct_ops_server.authority import files
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.sealing import SealingSecret, load_or_create_key

KEY_FILE = "audit.key"
PUBLIC_FILE = "audit.pub"
_MOST = 100


@dataclass(frozen=True, slots=True)
class AuditKey:
    """The key, and the public halves in PEM form: its own, then those of keys before it."""

    key: Ed25519PrivateKey = field(repr=False)
    public_pem: bytes
    before: str = ""
    """Name of the key that this directory had before; empty: none is known."""
    made: tuple[str, ...] = ()
    """A sentence when it was made just now."""
    lost: str = ""
    """What it means that it was made just now although there had been one; empty: there had been none."""


def load_or_create_audit_key(data_dir: Path, secret: SealingSecret) -> AuditKey:
    """Return the key, making it when there is none; its public half is put back when it is gone.

    Raises:
        AuthorityError: it cannot be read or written, or is no Ed25519 key.
    """
    stored = load_or_create_key(data_dir / KEY_FILE, secret, Ed25519PrivateKey.generate)
    if not isinstance(stored.key, Ed25519PrivateKey):
        raise AuthorityError(stored.file, "is no Ed25519 key. Restore it from a backup.")
    own = stored.key.public_key()
    older = [key for key in load_public_keys(data_dir) if key_name(key) != key_name(own)]
    public_pem = b"".join(map(_pem, [own, *older][:_MOST]))
    if files.load_private(data_dir / PUBLIC_FILE) != public_pem:
        files.replace_private(data_dir / PUBLIC_FILE, public_pem)
    before = key_name(older[0]) if older else ""
    made = f"{stored.file}: the key that signs the audit log. Copy {PUBLIC_FILE} to where it is verified."
    return AuditKey(
        stored.key,
        public_pem,
        before,
        (made,) if stored.made else (),
        _what_it_means(stored.file, before, key_name(own)) if stored.made and before else "",
    )


def load_public_keys(data_dir: Path) -> Sequence[Ed25519PublicKey]:
    """Return the public halves that lie in a data directory, the latest first; none when nothing can be read there.

    Raises:
        AuthorityError: the file cannot be opened.
    """
    try:
        return parse_public_keys(files.load_private(data_dir / PUBLIC_FILE) or b"")
    except ValueError:
        return ()


def _what_it_means(file: Path, before: str, now: str) -> str:
    return (
        f"{file} was gone, and the audit log is signed with a new key ({now}) from now on, which the key of before ({before}) did "
        f"not vouch for: if nobody here removed it, somebody else did. {PUBLIC_FILE} keeps both public halves; copy it to where the log "
        "is verified, and make a backup now: a restore of an older one does not believe approvals that only the new key signed"
    )


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
