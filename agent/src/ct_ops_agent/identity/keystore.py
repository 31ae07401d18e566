"""The private key of the agent: an Ed25519 key pair that never leaves the host.

``agent_key.pem`` is written as PKCS#8, so that standard tools read it. Existing agents wrote the raw
bytes (seed, or seed and public key) under the same PEM label; those are read as they are and never
rewritten, so that the way back to the existing agent stays open. ``agent_key.pub`` holds the raw 32
bytes under ``PUBLIC KEY``, which is also the form existing servers expect on the wire.

No `cryptography` here: an enrolled daemon loads its key at every start and must stay small. An
Ed25519 PKCS#8 document is a fixed prefix and the seed (RFC 8410, section 7), nothing to parse.
"""

import base64
import binascii
import hashlib
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.identity.files import load_file, write_file, write_new_file
from ct_ops_agent.secret import Secret

PRIVATE_KEY_NAME = "agent_key.pem"
PUBLIC_KEY_NAME = "agent_key.pub"

KEY_BYTES = 32
_PKCS8_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
_PKCS8_V2_HEADER = re.compile(rb"\x30.\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20", re.DOTALL)
_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
_ARMOUR = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s+(.*?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class KeyPair:
    """An Ed25519 key pair."""

    seed: bytes = field(repr=False)
    """32 bytes: the private key."""

    public: bytes
    """32 bytes."""

    @property
    def private_pem(self) -> Secret:
        """The private key as PKCS#8 PEM, as TLS libraries want it."""
        return Secret(to_pem("PRIVATE KEY", _PKCS8_PREFIX + self.seed))

    @property
    def public_pem(self) -> str:
        """The raw public key in PEM armour: the wire form."""
        return to_pem("PUBLIC KEY", self.public)

    @property
    def key_id(self) -> str:
        """SHA-256 of the public key in its canonical form (SubjectPublicKeyInfo, DER), hex."""
        return hashlib.sha256(_SPKI_PREFIX + self.public).hexdigest()

    def certified_by(self, leaf_pem: str) -> bool:
        """Whether a certificate is about this key: its key is spelled out in it (RFC 8410, section 4)."""
        return any(_SPKI_PREFIX + self.public in der for _, der in parse_pem(leaf_pem))


@dataclass(frozen=True)
class PrivateKey:
    """What a private key file says."""

    seed: bytes = field(repr=False)
    public: bytes | None
    """Only some forms carry it."""


def load_key_pair(directory: Path) -> KeyPair | None:
    """Return the agent's key pair, ``None`` on a host that has none yet.

    Raises:
        DataDirectoryError: the file is no Ed25519 private key, or its public half is nowhere to be found.
    """
    text = load_file(directory / PRIVATE_KEY_NAME)
    if text is None:
        return None
    private = parse_private_key(text)
    if private is None:
        raise DataDirectoryError(
            f"{directory / PRIVATE_KEY_NAME} is no Ed25519 private key in PEM form; restore it from a backup, "
            "or move the data directory away to enrol this host anew"
        )
    return KeyPair(private.seed, private.public or _load_public(directory) or _derive_public(private.seed))


def keep_key_pair(directory: Path, keys: KeyPair) -> None:
    """Write a new key pair. An existing private key is never overwritten.

    Raises:
        DataDirectoryError: there is a private key already, or the directory cannot be written.
    """
    write_new_file(directory / PRIVATE_KEY_NAME, keys.private_pem.reveal())
    write_file(directory / PUBLIC_KEY_NAME, keys.public_pem)


def parse_private_key(text: str) -> PrivateKey | None:
    """Read an Ed25519 private key in any form that was ever written, ``None`` when it is none."""
    for label, body in parse_pem(text):
        if label != "PRIVATE KEY":
            continue
        if len(body) == KEY_BYTES:
            return PrivateKey(body, None)
        if len(body) == 2 * KEY_BYTES:
            return PrivateKey(body[:KEY_BYTES], body[KEY_BYTES:])
        if body.startswith(_PKCS8_PREFIX) and len(body) == len(_PKCS8_PREFIX) + KEY_BYTES:
            return PrivateKey(body[len(_PKCS8_PREFIX) :], None)
        if match := _PKCS8_V2_HEADER.match(body):
            return PrivateKey(body[match.end() : match.end() + KEY_BYTES], body[-KEY_BYTES:])
    return None


def parse_key_pair(text: str) -> KeyPair | None:
    """Read a private key with the public half that belongs to it, ``None`` when it is none."""
    private = parse_private_key(text)
    return None if private is None else KeyPair(private.seed, private.public or _derive_public(private.seed))


def parse_public_key(text: str) -> bytes | None:
    """Read an Ed25519 public key, raw or SubjectPublicKeyInfo in PEM armour, ``None`` when it is none."""
    for label, body in parse_pem(text):
        if label == "PUBLIC KEY" and len(body.removeprefix(_SPKI_PREFIX)) == KEY_BYTES:
            return body.removeprefix(_SPKI_PREFIX)
    return None


def parse_pem(text: str) -> tuple[tuple[str, bytes], ...]:
    """Return label and content of every well-formed PEM block."""
    blocks = []
    for label, body in _ARMOUR.findall(text):
        try:
            blocks.append((label, base64.b64decode("".join(body.split()), validate=True)))
        except binascii.Error:
            continue
    return tuple(blocks)


def to_pem(label: str, body: bytes) -> str:
    """Return PEM text."""
    lines = "\n".join(textwrap.wrap(base64.b64encode(body).decode(), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def _load_public(directory: Path) -> bytes | None:
    text = load_file(directory / PUBLIC_KEY_NAME)
    return None if text is None else parse_public_key(text)


def _derive_public(seed: bytes) -> bytes:
    from ct_ops_agent.identity.certificates import public_key_of  # noqa: PLC0415 - rare, and heavy to import

    return public_key_of(seed)
