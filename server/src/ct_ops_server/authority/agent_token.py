"""Agent tokens: RS256 JWTs, the second factor beside the leaf and never the only one.

Claims: ``sub`` (agent id), ``iss`` (``ct-ops-ingest``), ``iat``, ``exp``, ``aud``, ``jti`` and
``cnf: {"x5t#S256": …}`` (RFC 8705), which binds the token to one leaf.

Verifying decides only what nobody else can: the signature (of the present or a retired key), the
issuer, the form. Whether an expired token still counts is the caller's decision, by the leaf beside
it (rule 11), so expiry is a flag and no error. Tokens of existing servers carry no ``aud`` and no
``cnf`` and pass, when the same key signed them.

The algorithm is fixed here and never taken from the token: ``none`` and HS256 made with the public
key as a password are the classic forgeries.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.types import Options

from ct_ops_server.authority.jwks import SigningKey, key_name

ISSUER = "ct-ops-ingest"
LIFETIME = timedelta(hours=24)
MAX_BYTES = 4 * 1024

_ALGORITHM = "RS256"
_SHA256_BYTES = 32
_LAST_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_ONLY_SIGNATURE: Options = {  # form, dates and audience are looked at below, with a clock that is an argument
    "verify_aud": False,
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


class Audience(StrEnum):
    """What a token is for."""

    AGENT = "ct-ops-agent"
    BOOTSTRAP = "ct-ops-bootstrap"
    """Ten minutes, and only beside the leaf it is bound to (rule 12)."""


class TokenDefect(StrEnum):
    """Why a token is none."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    SIGNATURE = "signature"
    ISSUER = "issuer"
    AUDIENCE = "audience"


class TokenInvalidError(ValueError):
    """This is no token of this installation. ``str()`` is a sentence without the token."""

    def __init__(self, reason: TokenDefect) -> None:
        super().__init__(f"The agent token is not valid ({reason}).")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class AgentTokenClaims:
    """What a token with a good signature says."""

    agent_id: str
    audience: Audience | None
    """None: a token of an existing server, which names none."""
    expires_at: datetime
    expired: bool
    leaf_sha256: bytes | None
    """The only leaf it may be used beside; None: any leaf of that agent."""


class TokenSigner:
    """Issues agent tokens."""

    def __init__(self, key: SigningKey, *, new_id: Callable[[], str] = lambda: uuid.uuid4().hex) -> None:
        self._key = key.key
        self._headers = {"kid": key_name(key.public_key)}
        self._new_id = new_id

    def issue(
        self,
        agent_id: str,
        *,
        now: datetime,
        leaf_sha256: bytes | None,
        audience: str = Audience.AGENT,
        lifetime: timedelta = LIFETIME,
    ) -> str:
        """Return a signed token for this agent, bound to a leaf when one is given."""
        issued_at = int(now.timestamp())
        claims: dict[str, Any] = {
            "sub": agent_id,
            "iss": ISSUER,
            "iat": issued_at,
            "exp": issued_at + int(lifetime.total_seconds()),
            "aud": Audience(audience).value,
            "jti": self._new_id(),
        }
        if leaf_sha256 is not None:
            claims["cnf"] = {"x5t#S256": base64.urlsafe_b64encode(leaf_sha256).rstrip(b"=").decode()}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers=self._headers)


class TokenVerifier:
    """Verifies agent tokens with the key that signs, the one prepared, and all before."""

    def __init__(self, keys: Sequence[rsa.RSAPublicKey]) -> None:
        self._keys: tuple[rsa.RSAPublicKey, ...] = ()
        self._by_name: dict[str, rsa.RSAPublicKey] = {}
        self.trust(keys)

    def trust(self, keys: Sequence[rsa.RSAPublicKey]) -> None:
        """Verify with these from now on."""
        self._keys = tuple(keys)
        self._by_name = {key_name(key): key for key in keys}

    def verify(self, token: str, *, now: datetime) -> AgentTokenClaims:
        """Return what the token says. Expiry is a flag of the result, not an error.

        Raises:
            TokenInvalidError: too large, no JWT, not signed by a key of ours, or of another issuer or audience.
        """
        if len(token) > MAX_BYTES or len(token.encode(errors="replace")) > MAX_BYTES:
            raise TokenInvalidError(TokenDefect.TOO_LARGE)
        claims = self._signed_claims(token)
        if claims.get("iss") != ISSUER:
            raise TokenInvalidError(TokenDefect.ISSUER)
        expires_at = _expiry(claims)
        return AgentTokenClaims(
            agent_id=_subject(claims),
            audience=_audience(claims),
            expires_at=expires_at,
            expired=expires_at <= now,
            leaf_sha256=_leaf(claims),
        )

    def _signed_claims(self, token: str) -> dict[str, Any]:
        for key in self._candidates(token):
            try:
                return jwt.decode(token, key, algorithms=[_ALGORITHM], options=_ONLY_SIGNATURE)
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidAlgorithmError as error:
                raise TokenInvalidError(TokenDefect.SIGNATURE) from error
            except jwt.InvalidTokenError as error:
                raise TokenInvalidError(TokenDefect.MALFORMED) from error
        raise TokenInvalidError(TokenDefect.SIGNATURE)

    def _candidates(self, token: str) -> tuple[rsa.RSAPublicKey, ...]:
        """Return the key that the token names; all of them for a token of an existing server (no kid)."""
        try:
            name = jwt.get_unverified_header(token).get("kid")
        except jwt.InvalidTokenError as error:
            raise TokenInvalidError(TokenDefect.MALFORMED) from error
        if name is None:
            return self._keys
        return (self._by_name[name],) if name in self._by_name else ()


def _subject(claims: dict[str, Any]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise TokenInvalidError(TokenDefect.MALFORMED)
    return subject


def _audience(claims: dict[str, Any]) -> Audience | None:
    if "aud" not in claims:
        return None
    try:
        return Audience(claims["aud"])
    except ValueError as error:
        raise TokenInvalidError(TokenDefect.AUDIENCE) from error


def _expiry(claims: dict[str, Any]) -> datetime:
    expiry = claims.get("exp")
    if isinstance(expiry, bool) or not isinstance(expiry, int | float) or not 0 <= expiry <= _LAST_TIME:
        raise TokenInvalidError(TokenDefect.MALFORMED)
    return datetime.fromtimestamp(expiry, tz=UTC)


def _leaf(claims: dict[str, Any]) -> bytes | None:
    """Return the leaf that the token is bound to. A binding we cannot read is no binding to ignore."""
    if "cnf" not in claims:
        return None
    try:
        digest = base64.urlsafe_b64decode(claims["cnf"]["x5t#S256"] + "=")
    except (TypeError, KeyError, ValueError) as error:
        raise TokenInvalidError(TokenDefect.MALFORMED) from error
    if len(digest) != _SHA256_BYTES:
        raise TokenInvalidError(TokenDefect.MALFORMED)
    return digest
