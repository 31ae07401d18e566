"""The enrolment token as a string: ``tok_`` SECRET [ ``.`` HINT ].

The secret admits; the hint tells an agent where the server is and which certificate authority
to believe there, so that trust travels with the invitation:

* SECRET: 20 random bytes, base32, lower case: 32 characters of ``a-z2-7``.
* HINT: unpadded base64url of ``0x01 ‖ SHA-256(CA certificate DER) ‖ "host:port[,host:port]" ‖ check``
  where check is the first 4 bytes of ``SHA-256("ct-ops token v1" ‖ "tok_" SECRET ‖ HINT so far)``.

The check finds a token that was cut off or mistyped before anything is sent. It proves nothing.
Strings that are not of this pattern are *opaque*: tokens of an existing server, sent verbatim.

Only the secret part goes over the wire and only its SHA-256 is stored: 160 random bits need no
slow hash. Nothing here logs; ``repr`` of a token shows no secret.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field

MAX_LENGTH = 163
"""Characters of the longest token string of ours."""

MAX_ACCEPTED_BYTES = 1024
"""A longer string is refused before it is hashed."""

_SECRET_BYTES = 20
_VERSION = b"\x01"
_PIN_BYTES = 32
_CHECK_BYTES = 4
_OURS = re.compile(r"(?P<secret>tok_[a-z2-7]{32})(?:\.(?P<hint>.*))?", re.DOTALL)
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


class TokenIncompleteError(ValueError):
    """The string starts like one of our tokens and does not pass its own check."""

    def __init__(self) -> None:
        super().__init__("token incomplete, copy it again")


@dataclass(frozen=True)
class ServerHint:
    """Where the server is, and the pin of the authority to believe there."""

    ca_sha256: bytes
    """SHA-256 of the CA certificate's DER form, 32 bytes."""

    addresses: tuple[str, ...]
    """``host:port``, most preferred first."""


@dataclass(frozen=True)
class EnrolmentToken:
    """A token taken apart. ``secret`` is what is sent and hashed."""

    secret: str = field(repr=False)
    hint: ServerHint | None

    @property
    def is_opaque(self) -> bool:
        """Whether it has no form that we know: a token of an existing server, or one of ours cut off early."""
        return _OURS.fullmatch(self.secret) is None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the secret part: how the server knows the token."""
        return secret_digest(self.secret)


def secret_digest(secret: str) -> bytes:
    """Return SHA-256 of a token's secret part, or of a whole opaque token."""
    return hashlib.sha256(secret.encode()).digest()


def make_secret(random_bytes: bytes) -> str:
    """Return ``tok_`` and the text of 20 random bytes."""
    if len(random_bytes) != _SECRET_BYTES:
        raise ValueError(f"a token secret has {_SECRET_BYTES} random bytes")
    return "tok_" + base64.b32encode(random_bytes).decode().lower()


def format_token(secret: str, hint: ServerHint) -> str:
    """Return the whole string. Raises ``ValueError`` when addresses or pin do not fit or have another form."""
    for address in hint.addresses:
        if not _ADDRESS.fullmatch(address):
            raise ValueError(f"{address!r} is no host:port")
    if not hint.addresses:
        raise ValueError("a token's hint needs at least one address")
    if len(hint.ca_sha256) != _PIN_BYTES:
        raise ValueError(f"a token's pin has {_PIN_BYTES} bytes")
    body = _VERSION + hint.ca_sha256 + ",".join(hint.addresses).encode()
    text = f"{secret}.{_base64url(body + _check(secret, body))}"
    if len(text) > MAX_LENGTH:
        raise ValueError(f"the addresses are too long for a token ({len(text)} of {MAX_LENGTH} characters)")
    return text


def parse_token(text: str) -> EnrolmentToken:
    """Take a token apart, whosever it is.

    Returns:
        One of ours with or without hint, or an opaque one (``secret`` is the whole string, no hint).

    Raises:
        TokenIncompleteError: it starts like one of ours and was damaged on the way.
    """
    if match := _OURS.fullmatch(text):
        secret, encoded = match["secret"], match["hint"]
        return EnrolmentToken(secret, None if encoded is None else _parse_hint(secret, encoded))
    return EnrolmentToken(text, None)


def strip_hint(text: str) -> str:
    """Return the secret part of a token that arrived whole (existing agents send all of it).

    The hint is not checked: the secret alone decides.
    """
    match = _OURS.fullmatch(text)
    return match["secret"] if match else text


def _parse_hint(secret: str, encoded: str) -> ServerHint:
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise TokenIncompleteError from error
    if _base64url(raw) != encoded:  # unused bits of the last character, padding, the other alphabet
        raise TokenIncompleteError
    body, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
    addresses_at = len(_VERSION) + _PIN_BYTES
    if len(body) <= addresses_at or check != _check(secret, body) or not body.startswith(_VERSION):
        raise TokenIncompleteError
    addresses = tuple(body[addresses_at:].decode(errors="replace").split(","))
    return ServerHint(body[len(_VERSION) : addresses_at], addresses)


def _check(secret: str, body: bytes) -> bytes:
    return hashlib.sha256(b"ct-ops token v1" + secret.encode() + body).digest()[:_CHECK_BYTES]


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
