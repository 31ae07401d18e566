"""The description of one artefact, in the exact bytes that are signed.

Canonical JSON (sorted, no spaces, one line), so that the same facts are the same bytes. The signature is
ECDSA on P-256 with SHA-256, deterministic (RFC 6979), DER in a file of its own; whoever holds the public
key verifies it without us::

    openssl dgst -sha256 -verify release-key.pub -signature FILE.manifest.sig FILE.manifest

The key is meant to become the first targets key of a TUF repository: length and SHA-256 are what its
targets metadata says of a file.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ct_ops_server.releases.artefact import Form


class ManifestError(ValueError):
    """This is no manifest, or not one that can be believed."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one artefact."""

    file_name: str
    system: str
    architecture: str
    form: Form
    version: str
    length: int
    sha256: str
    """Lower-case hex."""
    glibc_floor: str = ""
    """The oldest C library it starts on; empty: it needs none, or does not say."""


def to_bytes(manifest: Manifest) -> bytes:
    """Return the bytes that are signed."""
    return msgspec.json.encode(manifest, order="sorted") + b"\n"


def from_bytes(data: bytes) -> Manifest:
    """Return the manifest.

    Raises:
        ManifestError: it is none, or not in its canonical form.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise ManifestError(f"this is no manifest: {error}") from error
    if to_bytes(manifest) != data:
        raise ManifestError("this manifest is not in its canonical form")
    return manifest


def sign(manifest: Manifest, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the signature, the same each time."""
    return key.sign(to_bytes(manifest), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def verify(data: bytes, signature: bytes, key: ec.EllipticCurvePublicKey) -> Manifest:
    """Return a manifest that was signed by this key.

    Raises:
        ManifestError: it was not, or is no manifest.
    """
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise ManifestError("the signature is not by this server's release key") from error
    return from_bytes(data)
