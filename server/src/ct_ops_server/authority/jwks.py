"""The RS256 key that signs agent tokens, and its public face as a JWKS (RFC 7517).

Existing agents and servers know RS256 only, so the key is RSA-2048. It is found in this order:

1. ``INGEST_JWT_KEY_FILE``, when set; generated there when the file is missing;
2. the file of an existing installation, ``/var/lib/ct-ops/jwt_key.pem``, used as it is;
3. ``jwt_key.pem`` in the data directory; generated when missing.

A generated key is sealed. One that we found unsealed is never rewritten: another program may read it.

``kid`` is the RFC 7638 thumbprint: the same key has the same name on every server.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.sealing import SealingSecret, load_key, load_or_create_key, parse_key, seal

EXISTING_FILE = Path("/var/lib/ct-ops/jwt_key.pem")
"""Where existing servers keep their key unless told otherwise."""

MIN_BITS = 2048

_FILE_NAME = "jwt_key.pem"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private key of agent tokens."""

    file: Path
    key: rsa.RSAPrivateKey = field(repr=False)
    made: tuple[str, ...] = ()
    """A sentence when it was generated just now."""

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        """What verifies its tokens."""
        return self.key.public_key()


def load_or_create_signing_key(
    *, configured: Path | None, existing: Path, data_dir: Path, secret: SealingSecret
) -> SigningKey:
    """Return the signing key, generating it when there is none.

    Args:
        configured: ``INGEST_JWT_KEY_FILE``, if set.
        existing: the file of an existing installation (``EXISTING_FILE``).
        data_dir: where a new one is kept.
        secret: seals a new one and opens a sealed one.

    Raises:
        WrongSecretError: it is sealed with another secret.
        AuthorityError: it is unreadable or no RSA key of at least 2,048 bits.
    """
    path = signing_key_file(configured=configured, existing=existing, data_dir=data_dir)
    stored = load_or_create_key(path, secret, _generate, named=path.parent != data_dir)
    made = (f"{path}: the key that signs agent tokens. Back it up.",) if stored.made else ()
    return _usable(path, stored.key, made)


def load_signing_key(path: Path, data_dir: Path, secret: SealingSecret) -> SigningKey | None:
    """Return the signing key in ``path``, None when there is none.

    Raises:
        WrongSecretError, AuthorityError: as ``load_or_create_signing_key``.
    """
    key = load_key(path, secret, named=path.parent != data_dir)
    return None if key is None else _usable(path, key)


def signing_key_file(*, configured: Path | None, existing: Path, data_dir: Path) -> Path:
    """Return where the first signing key lies, or would be made."""
    return configured or (existing if _is_there(existing) else data_dir / _FILE_NAME)


def kept_key_files(data_dir: Path) -> tuple[Path, ...]:
    """Return where keys lie that no setting names, the one that is looked at first before the others."""
    ours = data_dir / _FILE_NAME
    return (EXISTING_FILE, ours) if _is_there(EXISTING_FILE) else (ours,)


def make_signing_key() -> SigningKey:
    """Return a new key that is kept nowhere yet."""
    return SigningKey(Path("the new key of agent tokens"), _generate())


def sealed_signing_key(signing: SigningKey, secret: SealingSecret) -> str:
    """Return the private key sealed, to be stored."""
    return seal(signing.key, secret).decode()


def open_stored_key(name: str, sealed_key: str, secret: SealingSecret) -> SigningKey:
    """Return a signing key as it was stored.

    Raises:
        WrongSecretError: it is sealed with another secret.
        AuthorityError: it is damaged.
    """
    origin = Path(f"key of agent tokens {name[:16]} in the database")
    return _usable(origin, parse_key(origin, sealed_key.encode(), secret))


def public_pem(signing: SigningKey) -> str:
    """Return the public half as PEM, to be stored."""
    return signing.public_key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def _usable(path: Path, key: PrivateKeyTypes, made: tuple[str, ...] = ()) -> SigningKey:
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < MIN_BITS:
        raise AuthorityError(path, f"is no RSA key of at least {MIN_BITS} bits, which agent tokens need.")
    return SigningKey(path, key, made)


def parse_public_keys(pems: Sequence[str]) -> tuple[rsa.RSAPublicKey, ...]:
    """Return retired public keys. Raises ``ValueError`` for one that is no RSA public key in PEM form."""
    keys = [serialization.load_pem_public_key(pem.encode()) for pem in pems]
    usable = tuple(key for key in keys if isinstance(key, rsa.RSAPublicKey))
    if len(usable) != len(keys):
        raise ValueError("a retired signing key is no RSA key")
    return usable


def jwks(keys: Sequence[rsa.RSAPublicKey]) -> dict[str, list[dict[str, str]]]:
    """Return the JSON Web Key Set of these keys, the one that signs first."""
    return {
        "keys": [
            {**_required_members(key), "use": "sig", "alg": "RS256", "kid": key_name(key)} for key in keys
        ]
    }


def key_name(key: rsa.RSAPublicKey) -> str:
    """Return the ``kid``: the RFC 7638 thumbprint, SHA-256 of the required members in lexical order."""
    text = json.dumps(_required_members(key), sort_keys=True, separators=(",", ":"))
    return _base64url(hashlib.sha256(text.encode()).digest())


def _required_members(key: rsa.RSAPublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"e": _base64url_number(numbers.e), "kty": "RSA", "n": _base64url_number(numbers.n)}


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (
        PermissionError
    ):  # its folder is closed to us, so it cannot be the key of a server run as this user
        return False


def _generate() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=MIN_BITS)


def _base64url_number(number: int) -> str:
    return _base64url(number.to_bytes((number.bit_length() + 7) // 8))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
