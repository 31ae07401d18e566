"""What a start stores when it takes a step: the first one, a named one that is prepared, a certificate that is renewed.

Pure but for sealing. Which of them is due is ``starting``'s table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from ct_ops_server.audit.decisions import SERVER
from ct_ops_server.authority.ca import make_authority
from ct_ops_server.authority.decided import lost, renewed_by, step_taken
from ct_ops_server.authority.issuer import Issuer, parse_chain, sealed_key_of, signs_as
from ct_ops_server.authority.jwks import (
    SigningKey,
    key_name,
    make_signing_key,
    public_pem,
    sealed_signing_key,
)
from ct_ops_server.authority.key_search import Key
from ct_ops_server.authority.life_cycle import Kind, Step, TrustState
from ct_ops_server.authority.ports import Change, NewKey, StoredKey, StoredTrust
from ct_ops_server.authority.sealing import SealingSecret


def adopted(kind: Kind, key: Key, version: int) -> Change:
    """Return what makes the first one of a new database active."""
    new = _new(key, TrustState.ACTIVE)
    entry = step_taken(kind, Step.ACTIVATE, new.name, actor=SERVER)
    return Change(kind, {new.name: TrustState.ACTIVE}, new, expected_version=version, decisions=[entry])


def named_prepared(
    kind: Kind, key: Key, keys: Sequence[Key], stored: StoredTrust, secret: SealingSecret
) -> Change:
    """Return what prepares a new one. The active one is stored sealed too: every node needs it until it is retired."""
    new, active = _new(key, TrustState.PREPARED), stored.active(kind)
    sealed = {new.name: _sealed(key, secret)}
    if active is not None and active.sealed_key is None:
        at_hand = next((each for each in keys if _is_key_of(active, each)), None)
        sealed |= {} if at_hand is None else {active.name: _sealed(at_hand, secret)}
    entry = step_taken(kind, Step.PREPARE, new.name, actor=SERVER)
    return Change(kind, new=new, sealed_keys=sealed, expected_version=stored.version, decisions=[entry])


def named_renewed(brought: Issuer, before: StoredKey, version: int, secret: SealingSecret) -> Change:
    """Return what gives an agent CA a new certificate, or the same one other certificates above it.

    The one before is retired, and its leaves count as the new one's: whoever has the key has signed both.
    """
    new = _new(brought, before.state)
    entry = renewed_by(before.name, new.name, actor=SERVER)
    if new.name == before.name:
        return Change(
            Kind.CA, public_pems={new.name: new.public_pem}, expected_version=version, decisions=[entry]
        )
    sealed: Mapping[str, str] = {}
    if before.sealed_key is not None:
        sealed = {new.name: sealed_key_of(brought, secret)}
    return Change(
        Kind.CA,
        {before.name: TrustState.RETIRED},
        new,
        sealed_keys=sealed,
        instead_of=before.name,
        expected_version=version,
        decisions=[entry],
    )


def lost_replaced(
    kind: Kind, active: StoredKey, version: int, secret: SealingSecret, *, actor: str, now: datetime
) -> Change:
    """Return what has a new one sign in place of one whose private key is lost, and whose signatures stay good."""
    key: Key = make_authority(now=now).issuer if kind is Kind.CA else make_signing_key()
    new = _new(key, TrustState.ACTIVE)
    return Change(
        kind,
        {active.name: TrustState.OUTGOING},
        new,
        sealed_keys={new.name: _sealed(key, secret)},
        expected_version=version,
        only_without_workers=True,
        decisions=[lost(kind, active.name, new.name, actor=actor)],
    )


def _new(key: Key, state: TrustState) -> NewKey:
    if isinstance(key, Issuer):
        return NewKey(key.sha256.hex(), key.pem, state)
    return NewKey(key_name(key.public_key), public_pem(key), state)


def _sealed(key: Key, secret: SealingSecret) -> str:
    return sealed_key_of(key, secret) if isinstance(key, Issuer) else sealed_signing_key(key, secret)


def _is_key_of(active: StoredKey, key: Key) -> bool:
    if isinstance(key, SigningKey):
        return key_name(key.public_key) == active.name
    return signs_as(key.certificate) == signs_as(parse_chain(active.public_pem)[0])
