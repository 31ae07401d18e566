"""The next agent CA or token key, made or brought, as the step that prepares it stores it.

Before the first rotation private keys lie in files alone. So the active one is stored too: the way back must be open
on every node. A CA that is brought may have a new certificate of the key that signs already, and then goes the same way;
the key of one that is retired may not come back, since what that has signed would count again.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from ct_ops_server.authority.ca import make_authority
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.issuer import (
    Issuer,
    must_be_usable,
    open_brought,
    parse_chain,
    sealed_key_of,
    signs_as,
)
from ct_ops_server.authority.jwks import key_name, make_signing_key, public_pem, sealed_signing_key
from ct_ops_server.authority.life_cycle import TRUSTED, Kind, TrustState
from ct_ops_server.authority.ports import Change, NewKey, StoredKey, StoredTrust
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.trust import Trust

_BROUGHT = Path("the agent CA that was brought")


def preparing(
    kind: Kind,
    stored: StoredTrust,
    trust: Trust,
    secret: SealingSecret,
    *,
    brought: tuple[str, str] | None,
    now: datetime,
) -> Change:
    """Return what prepares a new one, or the agent CA that is ``brought``: certificates and private key as PEM.

    Raises:
        AuthorityError: what is brought cannot be used, or is known; or the active one's key is not here yet.
    """
    if kind is Kind.CA:
        issuer = _brought(stored, *brought, secret, now) if brought else make_authority(now=now).issuer
        new = NewKey(issuer.sha256.hex(), issuer.pem, TrustState.PREPARED)
        sealed = sealed_key_of(issuer, secret)
    else:
        signing = make_signing_key()
        new = NewKey(key_name(signing.public_key), public_pem(signing), TrustState.PREPARED)
        sealed = sealed_signing_key(signing, secret)
    return Change(kind, new=new, sealed_keys={new.name: sealed} | _active_sealed(kind, stored, trust, secret))


def same_key_in_place(stored: StoredTrust, one: StoredKey) -> bool:
    """Return whether another agent CA of the same name and key is trusted, so that leaves of this one count on."""
    return any(
        each.name != one.name and each.state in TRUSTED and _signs_as(each) == _signs_as(one)
        for each in stored.keys[Kind.CA]
    )


def _brought(
    stored: StoredTrust, certificates: str, key: str, secret: SealingSecret, now: datetime
) -> Issuer:
    issuer = open_brought(_BROUGHT, certificates.encode(), key.encode(), secret)
    must_be_usable(issuer, now)
    if stored.find(Kind.CA, issuer.sha256.hex()) is not None:
        raise AuthorityError(_BROUGHT, "is known already: bring one with a new certificate.")
    same = [each for each in stored.keys[Kind.CA] if _signs_as(each) == signs_as(issuer.certificate)]
    if same and not any(each.state in TRUSTED for each in same):
        raise AuthorityError(
            _BROUGHT,
            f"has the name and the key of agent CA {same[-1].name[:16]}, which is retired: what that one has signed would "
            "count again. Bring one with a new key.",
        )
    return issuer


def _signs_as(stored: StoredKey) -> bytes:
    return signs_as(parse_chain(stored.public_pem)[0])


def _active_sealed(kind: Kind, stored: StoredTrust, trust: Trust, secret: SealingSecret) -> dict[str, str]:
    """Return the active one's private key, sealed, when it is only in this host's files until now."""
    active = stored.active(kind)
    if active is None or active.sealed_key is not None:
        return {}
    if kind is Kind.CA:
        name, sealed = trust.authority.sha256.hex(), sealed_key_of(trust.authority.issuer, secret)
    else:
        name, sealed = key_name(trust.signing.public_key), sealed_signing_key(trust.signing, secret)
    if name != active.name:
        raise AuthorityError(
            Path(f"key {active.name[:16]}"),
            "signs, and this server does not have it yet. Ask again in a second.",
        )
    return {name: sealed}
