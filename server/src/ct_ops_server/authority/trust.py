"""What this process trusts and signs with, now; and how that is replaced while it runs.

``assemble`` makes a ``Trust`` from what is stored and from the private keys that lie here; ``LiveTrust`` holds the
one in effect. Whoever must know of another one says so: the front door, whose handshakes know every authority,
before it is in effect; whoever signs, and whoever ends streams of a retired one, after. Everything changes between two awaits, so no request
sees half of it.

Out of scope: reading rows, files, and deciding which one signs (``keyring``, ``rotation``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from ct_ops_server.authority.agent_token import TokenVerifier
from ct_ops_server.authority.ca import Authority
from ct_ops_server.authority.issuer import Issuer, open_stored, parse_chain, signs_as
from ct_ops_server.authority.jwks import SigningKey, jwks, key_name, open_stored_key, parse_public_keys
from ct_ops_server.authority.leaf_identity import KnownAuthority
from ct_ops_server.authority.life_cycle import TOKENS_LIVE, TRUSTED, Kind, TrustState
from ct_ops_server.authority.ports import StoredKey, StoredTrust
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.start_sentences import key_is_nowhere
from ct_ops_server.authority.starting import StartRefusedError

_ORDER = (TrustState.ACTIVE, TrustState.PREPARED, TrustState.OUTGOING, TrustState.RETIRED)


@dataclass(frozen=True, slots=True)
class KeysHere:
    """Private keys that lie in files of this host, whatever their state."""

    issuers: tuple[Issuer, ...] = ()
    signing: tuple[SigningKey, ...] = ()


@dataclass(frozen=True, slots=True)
class _PublicKey:
    key: rsa.RSAPublicKey
    state: TrustState
    since: datetime


@dataclass(frozen=True, slots=True)
class Trust:
    """One version of it."""

    version: int
    authorities: tuple[KnownAuthority, ...]
    authorities_pem: tuple[str, ...]
    """Every agent authority ever used, with its chain: for the handshake."""
    authority: Authority = field(repr=False)
    """Signs leaves."""
    signing: SigningKey = field(repr=False)
    """Signs agent tokens."""
    public_keys: tuple[_PublicKey, ...]

    @property
    def kid(self) -> str:
        """The name of the key that signs agent tokens."""
        return key_name(self.signing.public_key)

    @property
    def retired(self) -> frozenset[bytes]:
        """Digests of the agent CAs whose leaves make no agent any more; not of a certificate that was renewed."""
        go_on = {signs_as(each.certificate) for each in self.authorities if each.state in TRUSTED}
        return frozenset(
            each.sha256
            for each in self.authorities
            if each.state not in TRUSTED and signs_as(each.certificate) not in go_on
        )


class LiveTrust:
    """The one in effect."""

    def __init__(self, trust: Trust) -> None:
        self._before: list[Callable[[Trust], None]] = []
        self._after: list[Callable[[Trust], None]] = []
        self.current = trust
        self.verifier = TokenVerifier(_keys_of(trust))
        """Stays the same object; it knows every key there ever was."""

    def before_change(self, listener: Callable[[Trust], None]) -> None:
        """Call ``listener`` before another one comes into effect; what it raises keeps the one before."""
        self._before.append(listener)

    def after_change(self, listener: Callable[[Trust], None]) -> None:
        """Call ``listener`` when another one is in effect."""
        self._after.append(listener)

    def take_up(self, trust: Trust) -> None:
        """Act by this one from now on.

        Raises:
            Whatever a listener of ``before_change`` raised: then nothing has changed.
        """
        for listener in self._before:
            listener(trust)
        self.current = trust
        self.verifier.trust(_keys_of(trust))
        for listener in self._after:
            listener(trust)

    def jwks(self, now: datetime) -> Mapping[str, Any]:
        """Return the public keys of tokens that may be good: also of one that was retired while its tokens live."""
        return jwks(
            [
                each.key
                for each in self.current.public_keys
                if each.state in TRUSTED or now < each.since + TOKENS_LIVE
            ]
        )


def assemble(stored: StoredTrust, secret: SealingSecret, here: KeysHere) -> Trust:
    """Return what is stored as something to act by, now and after the next step.

    Raises:
        WrongSecretError: a key is sealed with another secret, also one that does not sign yet.
        StartRefusedError: the private key of an active one is nowhere.
    """
    authorities = stored.keys[Kind.CA]
    _must_open(stored, secret)
    return Trust(
        version=stored.version,
        authorities=tuple(_known(each) for each in authorities),
        authorities_pem=tuple(each.public_pem for each in authorities),
        authority=Authority(_open_issuer(stored, secret, here.issuers)),
        signing=_open_signing(stored, secret, here.signing),
        public_keys=tuple(_public_keys(stored.keys[Kind.JWT])),
    )


def _must_open(stored: StoredTrust, secret: SealingSecret) -> None:
    """Find out now whether the keys of the next step, or of the way back, are of any use here."""
    for each in stored.keys[Kind.CA]:
        if each.sealed_key is not None:
            open_stored(each.public_pem, each.sealed_key, secret)
    for each in stored.keys[Kind.JWT]:
        if each.sealed_key is not None:
            open_stored_key(each.name, each.sealed_key, secret)


def _known(stored: StoredKey) -> KnownAuthority:
    first, *above = parse_chain(stored.public_pem)
    return KnownAuthority(first, stored.state, tuple(above))


def _public_keys(stored: Sequence[StoredKey]) -> list[_PublicKey]:
    """Return them with the one that signs first."""
    ordered = sorted(stored, key=lambda each: _ORDER.index(each.state))
    keys = parse_public_keys([each.public_pem for each in ordered])
    return [_PublicKey(key, each.state, each.since) for key, each in zip(keys, ordered, strict=True)]


def _keys_of(trust: Trust) -> list[rsa.RSAPublicKey]:
    return [each.key for each in trust.public_keys]


def _open_issuer(stored: StoredTrust, secret: SealingSecret, here: Sequence[Issuer]) -> Issuer:
    """Return it with the certificates that are stored: files of this node may hold older ones of the same key."""
    active = _active(stored, Kind.CA)
    chain = parse_chain(active.public_pem)
    for issuer in here:
        if issuer.key.public_key() == chain[0].public_key():
            return Issuer(issuer.origin, chain, issuer.key)
    if active.sealed_key is None:
        raise StartRefusedError(Path(f"agent CA {active.name[:16]}"), key_is_nowhere(Kind.CA))
    return open_stored(active.public_pem, active.sealed_key, secret)


def _open_signing(stored: StoredTrust, secret: SealingSecret, here: Sequence[SigningKey]) -> SigningKey:
    active = _active(stored, Kind.JWT)
    for signing in here:
        if key_name(signing.public_key) == active.name:
            return signing
    if active.sealed_key is None:
        raise StartRefusedError(Path(f"key of agent tokens {active.name[:16]}"), key_is_nowhere(Kind.JWT))
    return open_stored_key(active.name, active.sealed_key, secret)


def _active(stored: StoredTrust, kind: Kind) -> StoredKey:
    active = stored.active(kind)
    assert active is not None, "whoever opens the keyring sees to it"
    return active
