"""Short texts at rest that hold a secret (a password in a check): sealed under the installation's secret.

AES-256-GCM under a key of its own (HKDF of the secret that also seals private keys). A sealed text is bound
to what it belongs to, so a row of the database cannot be given another row's secret.

Out of scope: who may see the text once it is open.
"""

from __future__ import annotations

import binascii
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ct_ops_server.authority.sealing import SealingSecret

PREFIX = "sealed.1."
_NONCE_BYTES = 12
_KEY_BYTES = 32


class SealError(Exception):
    """A sealed text cannot be opened. ``str()`` is a sentence for the operator."""


class TextSeal:
    """Seals and opens texts with one secret."""

    def __init__(self, secret: SealingSecret, *, random: Callable[[int], bytes] = os.urandom) -> None:
        key = HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"ct-ops text seal 1").derive(secret.passphrase)
        self._cipher = AESGCM(key)
        self._secret_file = secret.file
        self._random = random

    def seal(self, text: str, *, bound_to: str) -> str:
        """Return the text sealed; it opens only for the same ``bound_to``."""
        nonce = self._random(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), bound_to.encode())
        return PREFIX + urlsafe_b64encode(nonce + sealed).decode()

    def open(self, text: str, *, bound_to: str) -> str:
        """Return the text as it was; one that was never sealed comes back as it is.

        Raises:
            SealError: it was sealed with another secret, or for something else, or is damaged.
        """
        if not text.startswith(PREFIX):
            return text
        try:
            raw = urlsafe_b64decode(text.removeprefix(PREFIX))
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound_to.encode()).decode()
        except (InvalidTag, ValueError, binascii.Error):
            raise SealError(
                f"what is stored for {bound_to} is sealed with another secret than the one in "
                f"{self._secret_file}, or damaged: point INGEST_SECRET_FILE at the secret it was sealed with, "
                "or define it again"
            ) from None
