"""Renewal: leaf due → new leaf, agent token due → new token, key to be rotated → new key.

Asked for beside a heartbeat on the running stream, where the server has named the ability; nothing is
lost and no process ends for it. When:

* the leaf at half its life plus up to a tenth (``jitter``), so that a fleet that was installed in one
  night does not renew in one night;
* the agent token when a third of its life is left;
* the key when somebody asked for it (``identity.rotation``).

A new token is used from the next stream on, a new leaf needs a new connection: `heartbeat` then opens
one. An existing server renews leaves by a call of its own (RenewCertificate) and renews no tokens;
its new leaf waits for the next connection, since each one costs a token that may have expired.

What was refused, or never answered, is asked for again after a minute, then after two, four and so on up to
an hour: a refusal may end the stream on the server's side, and never does on ours. A rotation that somebody
requests has waits of its own, so it never stands behind those of a leaf.

`cryptography` is loaded when a leaf is due, not before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ct_ops_agent.backoff import Backoff
from ct_ops_agent.control_plane import KeyProof, RenewalAsk, Renewed
from ct_ops_agent.identity.credentials import CredentialStore, Identity
from ct_ops_agent.identity.keystore import KeyPair, parse_pem
from ct_ops_agent.identity.rotation import KeyRotation
from ct_ops_agent.secret import Secret
from ct_ops_proto.key_proof import rotation_text

if TYPE_CHECKING:
    from ct_ops_agent.identity.certificates import LeafLife

_log = logging.getLogger(__name__)

FEATURE = "renewal"
HURRY = "hurry"
"""What ``features`` calls it, and a renewal before it is due because the server asks for it."""

FIRST_WAIT_S = 60.0
LONGEST_WAIT_S = 3600.0
_USUAL_LIFE_S = 90 * 86_400.0
"""Of a leaf of which only the end is known: what existing servers issue."""
_TOKEN_LEFT = 1 / 3
_LEAF_USED = 0.5
_JITTER = 0.1


class UnusableRenewalError(Exception):
    """What the server gave does not fit this agent. What it has stays."""


@dataclass(frozen=True)
class TokenLife:
    """When an agent token begins and ends, as it says itself. Seconds since 1970."""

    issued_unix: float
    expires_unix: float


def token_life(token: Secret) -> TokenLife | None:
    """Return what a JWT says about its life; not verified, since it is ours to use, not to judge."""
    try:
        payload = token.reveal().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return TokenLife(float(claims["iat"]), float(claims["exp"]))
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None


def token_is_due(token: Secret, now_unix: float) -> bool:
    """Whether a third of the token's life, or less, is left."""
    life = token_life(token)
    if life is None:
        return False
    return life.expires_unix - now_unix <= (life.expires_unix - life.issued_unix) * _TOKEN_LEFT


def leaf_is_due(identity: Identity, now_unix: float, *, jitter: float) -> bool:
    """Whether half of the leaf's life is over, and this agent's share of the jitter.

    Args:
        identity: whose leaf.
        now_unix: this host's clock.
        jitter: 0 to 1, the same for as long as the process lives.
    """
    end = identity.leaf_not_after_unix
    if end <= 0:
        return False
    begin = identity.leaf_not_before_unix or end - _USUAL_LIFE_S
    return now_unix >= begin + (end - begin) * (_LEAF_USED + _JITTER * jitter)


class _Patience:
    """When the same thing may be asked for again."""

    def __init__(self, wall: Callable[[], float], share: float) -> None:
        self._wall = wall
        self._backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, random=lambda: share)
        self._asked_unix = 0.0
        self._wait_s = 0.0

    @property
    def is_over(self) -> bool:
        # A clock that went back to before the last attempt must not silence this agent.
        return not 0 <= self._wall() - self._asked_unix < self._wait_s

    def note_attempt(self) -> None:
        self._asked_unix, self._wait_s = self._wall(), self._backoff.next_delay()

    def forget(self) -> None:
        self._backoff.reset()
        self._wait_s = 0.0


class Renewal:
    """What this process asks for, and what it does with the answer."""

    def __init__(
        self, *, store: CredentialStore, rotation: KeyRotation, wall: Callable[[], float], jitter: float
    ) -> None:
        self._store = store
        self._rotation = rotation
        self._wall = wall
        self._jitter = jitter
        self._credentials = _Patience(wall, jitter)
        self._key = _Patience(wall, jitter)
        self._told_rotation = False
        self._is_hurried = False

    def hurry(self) -> None:
        """Let the leaf be due now: the server will stop to believe the CA that signed it."""
        if not self._is_hurried:
            self._is_hurried = True
            _log.info("the server asks for the certificate to be renewed now")

    def ask(self, identity: Identity) -> RenewalAsk | None:
        """Return what to ask a server that renews on the stream; ``None``: nothing is due.

        Args:
            identity: of the stream.

        Raises:
            DataDirectoryError: the next key cannot be written.
        """
        if not self._rotation.is_requested:
            self._key.forget()  # the next request is another one
        elif self._key.is_over:
            self._key.note_attempt()
            return self._rotate(identity)
        if not self._credentials.is_over:
            return None
        if self._leaf_is_due(identity):
            self._credentials.note_attempt()
            return RenewalAsk(_make_csr(identity.keys))
        if token_is_due(identity.agent_token, self._wall()):
            self._credentials.note_attempt()
            return RenewalAsk(b"")
        return None

    def csr_if_leaf_is_due(self, identity: Identity) -> bytes | None:
        """Return what to ask a server that renews leaves by a call; ``None``: nothing is due."""
        if self._rotation.is_requested:
            self._tell_that_rotation_waits()
        if not self._credentials.is_over or not self._leaf_is_due(identity):
            return None
        self._credentials.note_attempt()
        return _make_csr(identity.keys)

    def request_rotation(self) -> None:
        """Have the key rotated on the server's wish: a copy of this host holds it.

        Raises:
            DataDirectoryError: the request cannot be written down.
        """
        if not self._rotation.is_requested:
            _log.warning("the server wants another key: a copy of this host holds this one")
            self._rotation.request()

    def take(self, identity: Identity, renewed: Renewed) -> Identity:
        """Keep what was renewed and return the identity as it is now.

        Raises:
            UnusableRenewalError: the answer is about another key; it is not used.
            DataDirectoryError: it cannot be written down.
        """
        keys = self._keys_of(identity, renewed)
        if renewed.leaf_pem:
            life = _life_of(renewed.leaf_pem, keys)
            now = replace(
                identity,
                keys=keys,
                agent_token=renewed.agent_token or identity.agent_token,
                leaf_pem=renewed.leaf_pem,
                agent_ca_pem=renewed.agent_ca_pem or identity.agent_ca_pem,
                leaf_not_after_unix=life.not_after_unix,
                leaf_not_before_unix=life.not_before_unix,
            )
        else:
            now = replace(identity, agent_token=renewed.agent_token)
        if keys is not identity.keys:
            self._rotation.promote(keys)
        self._store.keep_identity(now)
        self._is_hurried = self._is_hurried and not renewed.leaf_pem
        self._credentials.forget()
        self._key.forget()
        _log.info("renewed: %s", _what(identity, now))
        return now

    def _keys_of(self, identity: Identity, renewed: Renewed) -> KeyPair:
        """Return the key that the new leaf is about: ours, or the one that we asked to be next."""
        if not renewed.leaf_pem or identity.keys.certified_by(renewed.leaf_pem):
            return identity.keys
        following = self._rotation.next_key()
        if following is None or not following.certified_by(renewed.leaf_pem):
            raise UnusableRenewalError("the server sent a certificate for another key; it is not used")
        return following

    def _tell_that_rotation_waits(self) -> None:
        if not self._told_rotation:
            self._told_rotation = True
            _log.warning("this server does not rotate keys: the request waits for one that does")

    def _rotate(self, identity: Identity) -> RenewalAsk:
        from ct_ops_agent.identity.certificates import make_key_pair, sign  # noqa: PLC0415 - heavy, and rare

        following = self._rotation.next_key()
        if following is None:
            following = make_key_pair()
            self._rotation.keep_next(following)
        self._rotation.note_asked(self._wall())
        csr_der, leaf_der = _make_csr(following), _der_of(identity.leaf_pem)
        signature = sign(following, rotation_text(leaf_der=leaf_der, csr_der=csr_der))
        return RenewalAsk(csr_der, KeyProof(_digest(leaf_der), signature))

    def _leaf_is_due(self, identity: Identity) -> bool:
        return self._is_hurried or leaf_is_due(identity, self._wall(), jitter=self._jitter)


def _life_of(leaf_pem: str, keys: KeyPair) -> LeafLife:
    from ct_ops_agent.identity.certificates import leaf_life  # noqa: PLC0415 - heavy, and due twice a year

    try:
        return leaf_life(leaf_pem, keys)
    except ValueError as error:
        raise UnusableRenewalError(f"the server sent a certificate that cannot be used: {error}") from error


def _make_csr(keys: KeyPair) -> bytes:
    from ct_ops_agent.identity.certificates import make_csr  # noqa: PLC0415 - heavy, and due twice a year

    return make_csr(keys)


def _der_of(leaf_pem: str) -> bytes:
    return next(der for label, der in parse_pem(leaf_pem) if label == "CERTIFICATE")


def _digest(leaf_der: bytes) -> bytes:
    return hashlib.sha256(leaf_der).digest()


def _what(before: Identity, now: Identity) -> str:
    if now.keys is not before.keys:
        return "the key, with a certificate and an agent token for it"
    return (
        "the agent token"
        if now.leaf_pem == before.leaf_pem
        else "the certificate, with an agent token for it"
    )
