"""The release key: P-256, signs manifests, and need not be on the server.

``make_release_key`` writes the private half where the operator wishes (a stick, another host) and keeps the
public half in the data directory. Only who adds a release needs the private half; agents and installers need
the public one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.files import create_private, load_named, load_private, open_private_directory

PUBLIC_FILE = "release-key.pub"
PRIVATE_FILE = "release-key.pem"


def make_release_key(data_dir: Path, private: Path) -> ec.EllipticCurvePublicKey:
    """Make the key of this installation.

    Raises:
        AuthorityError: there is one already, or a file cannot be written.
    """
    open_private_directory(data_dir)
    if load_private(data_dir / PUBLIC_FILE) is not None:
        raise AuthorityError(
            data_dir / PUBLIC_FILE,
            "is there already: agents believe that key. Remove the file only if no agent has it yet.",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    if not create_private(private, _private_pem(key)):
        raise AuthorityError(private, "is there already, and a key is never overwritten. Name another file.")
    create_private(data_dir / PUBLIC_FILE, public_pem(key.public_key()))
    return key.public_key()


def load_public_key(data_dir: Path) -> ec.EllipticCurvePublicKey | None:
    """Return the public half, None when no key was made.

    Raises:
        AuthorityError: it cannot be read.
    """
    content = load_private(data_dir / PUBLIC_FILE)
    if content is None:
        return None
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AuthorityError(data_dir / PUBLIC_FILE, "holds no public key in PEM.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AuthorityError(data_dir / PUBLIC_FILE, "is no P-256 key.")
    return key


def release_key_text(data_dir: Path) -> str:
    """Return the public half as PEM, empty when no key was made.

    Raises:
        AuthorityError: it cannot be read.
    """
    key = load_public_key(data_dir)
    return public_pem(key).decode() if key else ""


def load_signing_key(data_dir: Path, named: Path | None) -> ec.EllipticCurvePrivateKey | None:
    """Return the private half: from the named file, else from the data directory; None when it is not here.

    Raises:
        AuthorityError: the named file is no key, or not the one of this installation.
    """
    path = named or data_dir / PRIVATE_FILE
    if named is None and load_named(path) is None:
        return None
    key = load_key_file(path)
    public = load_public_key(data_dir)
    if public is None or key.public_key() != public:
        raise AuthorityError(path, f"is not the key whose public half is {data_dir / PUBLIC_FILE}.")
    return key


def load_key_file(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the private half in a file that somebody named.

    Raises:
        AuthorityError: it is none.
    """
    content = load_named(path)
    if content is None:
        raise AuthorityError(path, "does not exist. Name the file that `release key init` wrote.")
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityError(path, "holds no unencrypted private key in PEM.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(path, "is no P-256 key.")
    return key


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the public half as others read it."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return what names a key: SHA-256 of its DER form, in hex."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
