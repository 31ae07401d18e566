"""Private keys at rest: PKCS#8 PEM, encrypted under the installation's secret.

The secret is one line of text in ``INGEST_SECRET_FILE``; we generate 32 random bytes as hex. A
sealed key is ordinary encrypted PKCS#8, so a plain tool opens it in an emergency::

    openssl pkey -in agent-ca.key -passin file:secret

Keys of existing systems (PKCS#1, SEC1, PKCS#8, unsealed) are read too and never rewritten.

Out of scope: where the secret comes from. Whoever wants it off the disk mounts it (systemd's
``LoadCredential``, a container's secret) and names that path.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from ct_ops_server.authority import files
from ct_ops_server.authority.errors import AuthorityError, WrongSecretError

MIN_SECRET_CHARACTERS = 16
"""A shorter secret was typed, not generated, and would be guessed."""

_GENERATED_BYTES = 32
_SEALED_MARKS = (b"BEGIN ENCRYPTED ", b",ENCRYPTED")  # PKCS#8, and the older form of OpenSSL


@dataclass(frozen=True, slots=True)
class SealingSecret:
    """The passphrase of every sealed key, and the file it came from."""

    file: Path
    passphrase: bytes = field(repr=False)
    made: tuple[str, ...] = ()
    """A sentence when the secret was generated just now."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A private key and the file it is kept in."""

    file: Path
    key: PrivateKeyTypes = field(repr=False)
    made: bool
    """It was generated just now."""


def load_or_create_secret(path: Path, *, random: Callable[[int], bytes] = os.urandom) -> SealingSecret:
    """Return the secret in ``path``, generating it (0600) when there is no such file.

    Args:
        path: the file that ``INGEST_SECRET_FILE`` names; its first line is the secret.
        random: returns that many random bytes.

    Raises:
        AuthorityError: the file is unreadable, empty or too short to be a secret.
    """
    content = files.load_named(path)
    if content is not None:
        return SealingSecret(path, _first_line(path, content))
    passphrase = random(_GENERATED_BYTES).hex().encode()
    if not files.create_private(path, passphrase + b"\n"):
        return load_or_create_secret(path, random=random)
    return SealingSecret(path, passphrase, (f"{path}: the secret that seals private keys. Back it up.",))


def load_key(path: Path, secret: SealingSecret, *, named: bool = False) -> PrivateKeyTypes | None:
    """Return the private key in ``path``, sealed or not; None when there is no such file.

    Args:
        path: a PEM file.
        secret: opens it when it is sealed.
        named: the operator chose this path, so it may be a symlink.

    Raises:
        WrongSecretError: it is sealed with another secret.
        AuthorityError: it is unreadable or holds no private key.
    """
    content = files.load_named(path) if named else files.load_private(path)
    return None if content is None else parse_key(path, content, secret)


def load_or_create_key(
    path: Path, secret: SealingSecret, generate: Callable[[], PrivateKeyTypes], *, named: bool = False
) -> StoredKey:
    """Return the private key in ``path``; when there is none, generate it and store it sealed.

    Raises:
        WrongSecretError: it is sealed with another secret.
        AuthorityError: it is unreadable, holds no private key, or cannot be written.
    """
    if (found := load_key(path, secret, named=named)) is not None:
        return StoredKey(path, found, made=False)
    key = generate()
    if not files.create_private(path, seal(key, secret)):
        return load_or_create_key(path, secret, generate, named=named)
    return StoredKey(path, key, made=True)


def seal(key: PrivateKeyTypes, secret: SealingSecret) -> bytes:
    """Return ``key`` as PKCS#8 PEM encrypted under the secret."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(secret.passphrase),
    )


def parse_key(path: Path, pem: bytes, secret: SealingSecret) -> PrivateKeyTypes:
    """Return the private key in ``pem``, sealed or not; ``path`` is what errors call it.

    Raises:
        WrongSecretError: it is sealed with another secret.
        AuthorityError: it is no private key.
    """
    sealed = any(mark in pem for mark in _SEALED_MARKS)
    try:
        return serialization.load_pem_private_key(pem, secret.passphrase if sealed else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The library cannot tell a wrong passphrase from a damaged file; the former is likelier by far.
        if sealed:
            raise WrongSecretError(path, secret.file) from error
        raise AuthorityError(path, "holds no private key in PEM form. Restore it from a backup.") from error


def _first_line(path: Path, content: bytes) -> bytes:
    """Return what ``openssl -passin file:`` would take as passphrase."""
    line = content.splitlines()[0] if content else b""
    if len(line) < MIN_SECRET_CHARACTERS:
        raise AuthorityError(
            path,
            f"holds a secret of fewer than {MIN_SECRET_CHARACTERS} characters. Put a random one in its first "
            "line (openssl rand -hex 32), or remove the file to have one generated.",
        )
    return line
