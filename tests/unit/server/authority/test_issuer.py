"""An agent CA that an operator brings: every reason why it would fail later is told when it comes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ct_ops_server.authority.ca import Authority
from ct_ops_server.authority.errors import AuthorityError, WrongSecretError
from ct_ops_server.authority.issuer import Issuer, must_be_usable, open_brought, open_stored, sealed_key_of
from ct_ops_server.authority.leaf_identity import (
    Anonymous,
    AnonymousReason,
    KeyProven,
    KnownAuthority,
    LeafOfAgent,
    identify,
)
from ct_ops_server.authority.life_cycle import TrustState
from ct_ops_server.authority.public_key import PublicKey
from ct_ops_server.authority.sealing import SealingSecret, load_or_create_secret
from own_authority import SERVERS_ONLY, OwnCa, make_ca

_ORIGIN = Path("/etc/ct-ops/own-ca.pem")


def opened(ca: OwnCa, secret: SealingSecret, *, pem: str = "", key_pem: str = "") -> Issuer:
    return open_brought(_ORIGIN, (pem or ca.pem).encode(), (key_pem or ca.key_pem).encode(), secret)


@pytest.mark.parametrize(
    "make_key",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate,
    ],
    ids=["p-384", "rsa", "ed25519"],
)
def test_a_ca_of_any_sound_kind_signs_leaves(
    make_key: Callable[[], ec.EllipticCurvePrivateKey],
    secret: SealingSecret,
    public_key: PublicKey,
    now: datetime,
) -> None:
    """Below a root of the operator's: the leaf's bearer is the agent, by the intermediate's signature."""
    root = make_ca("Own Root", now=now)
    ca = make_ca("Own Agents", above=root, key=make_key(), path_length=0, now=now)
    issuer = opened(ca, secret)
    must_be_usable(issuer, now)
    leaf = Authority(issuer).issue_leaf(public_key, "a1", "here", now=now)
    known = KnownAuthority(issuer.certificate, TrustState.ACTIVE, issuer.chain[1:])

    assert (ca.certificate, root.certificate) == issuer.chain
    assert isinstance(identify(leaf.der, authorities=[known], installation_id="here", now=now), LeafOfAgent)


def test_a_chain_may_come_in_any_order_and_with_strangers(secret: SealingSecret, now: datetime) -> None:
    """The key says which certificate signs; what is not above it is left out."""
    root = make_ca("Own Root", now=now)
    ca = make_ca("Own Agents", above=make_ca("Own Policy", above=root, now=now), now=now)
    shuffled = [root.certificate, make_ca("Stranger", now=now).certificate, ca.above[0], ca.certificate]
    pem = "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in shuffled)
    issuer = opened(ca, secret, pem=pem)
    must_be_usable(issuer, now)

    assert [ca.certificate, *ca.above] == list(issuer.chain)
    assert hashlib.sha256(ca.certificate.public_bytes(serialization.Encoding.DER)).digest() == issuer.sha256


def weak_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


def odd_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256K1())


def without_its_root(now: datetime) -> OwnCa:
    return replace(make_ca("X", above=make_ca("Root", now=now), now=now), above=())


BAD: dict[str, tuple[Callable[[datetime], OwnCa], str]] = {
    "no constraints": (lambda now: make_ca("X", is_ca=None, now=now), "it has no basic constraints"),
    "a leaf": (lambda now: make_ca("X", is_ca=False, now=now), "its basic constraints say so"),
    "expired": (lambda now: make_ca("X", days=(-9, -1), now=now), "has expired"),
    "of the future": (lambda now: make_ca("X", days=(1, 9), now=now), "is not valid before"),
    "below an expired root": (
        lambda now: make_ca("X", above=make_ca("R", days=(-9, -1), now=now), now=now),
        "has expired",
    ),
    "path length": (
        lambda now: make_ca("X", above=make_ca("R", path_length=0, now=now), now=now),
        "allows a path length of 0, and 1 CAs are below",
    ),
    "for servers only": (lambda now: make_ca("X", uses=SERVERS_ONLY, now=now), "lacks clientAuth"),
    "below a root for servers": (
        lambda now: make_ca("X", above=make_ca("R", uses=SERVERS_ONLY, now=now), now=now),
        "lacks clientAuth",
    ),
    "not for certificates": (
        lambda now: make_ca("X", signs_certificates=False, now=now),
        "lacks keyCertSign",
    ),
    "weak": (lambda now: make_ca("X", key=weak_key(), now=now), "weak key: RSA of 1024 bits"),
    "odd curve": (lambda now: make_ca("X", key=odd_key(), now=now), "on the curve secp256k1"),
    "short digest": (lambda now: make_ca("X", digest=hashes.SHA224(), now=now), "is signed with sha224"),
    "without its root": (without_its_root, "does not reach a self-signed root"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_a_ca_whose_leaves_would_be_worth_nothing_is_refused(
    case: str, secret: SealingSecret, now: datetime
) -> None:
    """With the file's name and the reason."""
    make, sentence = BAD[case]
    issuer = opened(make(now), secret)
    with pytest.raises(AuthorityError) as refusal:
        must_be_usable(issuer, now)

    assert str(refusal.value).startswith(str(_ORIGIN))
    assert sentence in str(refusal.value)


def test_a_key_of_another_certificate_is_refused(secret: SealingSecret, now: datetime) -> None:
    """Also when the certificate is sound."""
    ca = make_ca("X", now=now)
    with pytest.raises(AuthorityError, match="no certificate of the private key"):
        opened(ca, secret, key_pem=make_ca("Y", now=now).key_pem)


@pytest.mark.parametrize("what", ["pem", "key_pem"])
def test_what_is_no_pem_is_refused_without_being_shown(
    what: str, secret: SealingSecret, now: datetime
) -> None:
    """A key that was pasted into the wrong place does not get into the log."""
    with pytest.raises(AuthorityError) as refusal:
        opened(make_ca("X", now=now), secret, **{what: "hush hush"})

    assert "PEM" in str(refusal.value)
    assert "hush" not in str(refusal.value)


def test_a_stored_key_opens_with_its_secret_only(
    secret: SealingSecret, now: datetime, tmp_path: Path
) -> None:
    """Nothing else in the database can be made of it; and nothing of the key is in any text about it."""
    ca = make_ca("X", above=make_ca("Root", now=now), now=now)
    issuer = opened(ca, secret)
    sealed = sealed_key_of(issuer, secret)
    again = open_stored(issuer.pem, sealed, secret)

    assert issuer.chain == again.chain
    assert "ENCRYPTED" in sealed
    assert "key=" not in repr(issuer)
    with pytest.raises(WrongSecretError, match="another secret"):
        open_stored(issuer.pem, sealed, load_or_create_secret(tmp_path / "another"))


def test_a_leaf_ends_with_the_first_of_its_chain(
    secret: SealingSecret, public_key: PublicKey, now: datetime
) -> None:
    """Beyond that it would be worth nothing; and what is worth nothing proves its key still."""
    root = make_ca("Root", days=(-1, 20), now=now)
    issuer = opened(make_ca("X", above=root, now=now), secret)
    leaf = Authority(issuer).issue_leaf(public_key, "a1", "here", now=now)
    known = KnownAuthority(issuer.certificate, TrustState.ACTIVE, issuer.chain[1:])
    later = root.certificate.not_valid_after_utc.replace(hour=23, minute=59)
    found = identify(leaf.der, authorities=[known], installation_id="here", now=later)

    assert root.certificate.not_valid_after_utc == leaf.not_after
    assert isinstance(found, KeyProven)
    assert "authority_expired" == found.reason


def test_a_certificate_that_only_bears_the_name_of_our_ca_signs_nothing(
    secret: SealingSecret, public_key: PublicKey, now: datetime
) -> None:
    """Attack: whoever has a CA below the same root makes one of the same name."""
    root = make_ca("Own Root", now=now)
    ours, theirs = (opened(make_ca("Own Agents", above=root, now=now), secret) for _ in range(2))
    forged = Authority(theirs).issue_leaf(public_key, "a1", "here", now=now)
    known = KnownAuthority(ours.certificate, TrustState.ACTIVE, ours.chain[1:])

    found = identify(forged.der, authorities=[known], installation_id="here", now=now)

    assert Anonymous(AnonymousReason.UNKNOWN_AUTHORITY) == found
