"""Whom does a presented leaf make its bearer? Decided after the handshake, by us (rule 1).

OpenSSL has decided only that the handshake completes, with every authority ever used in its store
and without looking at dates. What it has proven is that the peer holds the private key of the leaf.
The rest is decided here, as a table of three results:

* ``LeafOfAgent``  signed by an authority that is trusted (``life_cycle``) and inside its own dates, the leaf inside its dates,
  named as exactly one agent of this installation. The caller still looks up revocation.
* ``KeyProven``    signed by an authority we know, and the key is proven; something else is not in
  order, and ``reason`` says what. Enough to recognise a known key on Register (rule 12), never
  enough to act as an agent: ``agent_id`` is then a claim for log lines.
* ``Anonymous``    no leaf, or one that says nothing to us.

A leaf that no known authority signed is *anonymous*, although its key was proven in the handshake
too. It cannot come through a front door whose store holds the same authorities, so one that arrives
means that the two lists differ; then the least is believed. Nothing is lost but the shortcut: its
bearer enrols like anybody.

Two authorities may carry the same name (after a rotation), so every authority of the issuer's name
is tried. Extended key usage is not looked at again: OpenSSL refuses a leaf that is not for clients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from ct_ops_server.authority.issuer import UNREADABLE, dates_of, sha256_of
from ct_ops_server.authority.life_cycle import TRUSTED, TrustState
from ct_ops_server.authority.public_key import KeyRefusedError, PublicKey, canonical_public_key
from ct_ops_server.authority.spiffe import SpiffeName, parse_uri

SKEW_TOLERANCE = timedelta(minutes=5)
"""How far a date may be off before it counts: servers' clocks differ."""


class KeyProvenReason(StrEnum):
    """Why a leaf proves its key and nothing more."""

    LEAF_EXPIRED = "leaf_expired"
    LEAF_NOT_YET_VALID = "leaf_not_yet_valid"
    AUTHORITY_RETIRED = "authority_retired"
    AUTHORITY_EXPIRED = "authority_expired"
    FOREIGN_INSTALLATION = "foreign_installation"


class AnonymousReason(StrEnum):
    """Why a caller has no identity at all."""

    NO_LEAF = "no_leaf"
    LEAF_MALFORMED = "leaf_malformed"
    KEY_NOT_ACCEPTED = "key_not_accepted"
    UNKNOWN_AUTHORITY = "unknown_authority"


@dataclass(frozen=True, slots=True)
class KnownAuthority:
    """An agent CA that we use, have used, or were told to recognise."""

    certificate: x509.Certificate
    state: TrustState
    above: tuple[x509.Certificate, ...] = ()
    """The chain that it belongs to, up to its root; empty for a root."""

    @property
    def sha256(self) -> bytes:
        """What it is known by."""
        return sha256_of(self.certificate)

    def is_valid(self, now: datetime) -> bool:
        """Return whether it and those above it are inside their dates, give or take what clocks differ."""
        start, end = dates_of((self.certificate, *self.above))
        return start - SKEW_TOLERANCE <= now <= end + SKEW_TOLERANCE


@dataclass(frozen=True, slots=True)
class LeafOfAgent:
    """The bearer is this agent, unless it was revoked."""

    agent_id: str
    key_id: str
    serial_hex: str
    sha256: bytes
    """SHA-256 of the leaf's DER form, 32 bytes."""
    not_after: datetime
    authority_sha256: bytes
    """Of the agent CA that signed it."""


@dataclass(frozen=True, slots=True)
class KeyProven:
    """The bearer holds this key; the leaf does not make it an agent."""

    key_id: str
    agent_id: str | None
    """What the leaf claims, None when it names no agent of this installation."""
    reason: KeyProvenReason


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Nothing is known about the bearer."""

    reason: AnonymousReason


LeafIdentity = LeafOfAgent | KeyProven | Anonymous


def identify(
    leaf_der: bytes | None, *, authorities: Sequence[KnownAuthority], installation_id: str, now: datetime
) -> LeafIdentity:
    """Decide what the leaf of a completed TLS handshake makes of its bearer.

    Args:
        leaf_der: what ``getpeercert(binary_form=True)`` returned, None without a certificate.
        authorities: all agent CAs, also retired and recognised ones.
        installation_id: whose agents count.
        now: the moment of the decision, with time zone.
    """
    leaf = _parse(leaf_der)
    if isinstance(leaf, AnonymousReason):
        return Anonymous(leaf)
    authority = _signer(leaf.certificate, authorities, now)
    if authority is None:
        return Anonymous(AnonymousReason.UNKNOWN_AUTHORITY)
    if leaf.name is None or leaf.name.installation_id != installation_id:
        return KeyProven(leaf.key.key_id, None, KeyProvenReason.FOREIGN_INSTALLATION)
    if (reason := _out_of_order(leaf.certificate, authority, now)) is not None:
        return KeyProven(leaf.key.key_id, leaf.name.agent_id, reason)
    return LeafOfAgent(
        agent_id=leaf.name.agent_id,
        key_id=leaf.key.key_id,
        serial_hex=f"{leaf.certificate.serial_number:x}",
        sha256=leaf.sha256,
        not_after=leaf.certificate.not_valid_after_utc,
        authority_sha256=authority.sha256,
    )


@dataclass(frozen=True, slots=True)
class _Leaf:
    certificate: x509.Certificate
    sha256: bytes
    key: PublicKey
    name: SpiffeName | None
    """The one agent it names, of whichever installation."""


def _parse(der: bytes | None) -> _Leaf | AnonymousReason:
    if not der:
        return AnonymousReason.NO_LEAF
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = canonical_public_key(certificate.public_key())
        return _Leaf(certificate, hashlib.sha256(der).digest(), key, _only_name(certificate))
    except (KeyRefusedError, UnsupportedAlgorithm):
        return AnonymousReason.KEY_NOT_ACCEPTED
    except UNREADABLE:
        return AnonymousReason.LEAF_MALFORMED


def _signer(
    leaf: x509.Certificate, authorities: Sequence[KnownAuthority], now: datetime
) -> KnownAuthority | None:
    """Return the authority whose key signed the leaf; a trusted one before a retired one, a valid one before an ended.

    A CA whose certificate was renewed is there twice, with one name and one key.
    """

    def worse(known: KnownAuthority) -> tuple[bool, bool]:
        return known.state not in TRUSTED, not known.is_valid(now)

    for authority in sorted(authorities, key=worse):
        try:
            leaf.verify_directly_issued_by(authority.certificate)
        except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
            continue  # another name, another key, or an algorithm that this authority cannot have used
        return authority
    return None


def _only_name(leaf: x509.Certificate) -> SpiffeName | None:
    """Return the agent that the leaf names, if its alternative name is exactly one SPIFFE URI of our shape."""
    try:
        names = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return None
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        return None
    return parse_uri(names[0].value)


def _out_of_order(leaf: x509.Certificate, authority: KnownAuthority, now: datetime) -> KeyProvenReason | None:
    """Return what is wrong with state and dates, the authority's first; None when all is in order."""
    if authority.state not in TRUSTED:
        return KeyProvenReason.AUTHORITY_RETIRED
    if not authority.is_valid(now):
        return KeyProvenReason.AUTHORITY_EXPIRED
    if now > leaf.not_valid_after_utc + SKEW_TOLERANCE:
        return KeyProvenReason.LEAF_EXPIRED
    if now < leaf.not_valid_before_utc - SKEW_TOLERANCE:
        return KeyProvenReason.LEAF_NOT_YET_VALID
    return None
