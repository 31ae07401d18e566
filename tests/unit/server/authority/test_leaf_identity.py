"""Rule 1 as a table: what a presented leaf makes of its bearer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ct_ops_server.authority.ca import Authority, load_or_create_authority
from ct_ops_server.authority.leaf_identity import (
    Anonymous,
    AnonymousReason,
    KeyProven,
    KeyProvenReason,
    KnownAuthority,
    LeafIdentity,
    LeafOfAgent,
    identify,
)
from ct_ops_server.authority.life_cycle import TrustState
from ct_ops_server.authority.public_key import PublicKey
from ct_ops_server.authority.root import Root, RootName, load_or_create_root, make_root_certificate
from ct_ops_server.authority.sealing import SealingSecret
from unit.server.authority.agent_keys import AgentKey

_INSTALLATION = "inst-1"
_URI = "spiffe://ct-ops/org/inst-1/agent/agent-1"
_MINUTE = timedelta(minutes=1)


@pytest.fixture
def root(data_dir: Path, secret: SealingSecret, now: datetime, authority: Authority) -> Root:
    """The same CA as ``authority``, for signing what it never would."""
    return load_or_create_root(data_dir, RootName("agent-ca", "CT-Ops Agent CA", "test"), secret, now=now)


@pytest.fixture
def active(authority: Authority) -> KnownAuthority:
    return KnownAuthority(authority.certificate, TrustState.ACTIVE)


@pytest.fixture
def issued_leaf(authority: Authority, public_key: PublicKey, now: datetime) -> bytes:
    return authority.issue_leaf(public_key, "agent-1", _INSTALLATION, now=now).der


def _identify(leaf: bytes | None, authorities: Sequence[KnownAuthority], now: datetime) -> LeafIdentity:
    return identify(leaf, authorities=authorities, installation_id=_INSTALLATION, now=now)


def _signed(
    root: Root,
    key: AgentKey | rsa.RSAPrivateKey,
    now: datetime,
    *,
    names: Sequence[x509.GeneralName] | None = (x509.UniformResourceIdentifier(_URI),),
) -> bytes:
    """Return a leaf that our CA would not issue, as DER."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _MINUTE)
        .not_valid_after(now + timedelta(days=1))
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(root.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_a_good_leaf_makes_an_agent(
    authority: Authority, active: KnownAuthority, public_key: PublicKey, now: datetime
) -> None:
    """Signed by an active authority, in its dates, named as ours: the bearer is that agent."""
    issued = authority.issue_leaf(public_key, "agent-1", _INSTALLATION, now=now)

    expected = LeafOfAgent(
        agent_id="agent-1",
        key_id=public_key.key_id,
        serial_hex=issued.serial_hex,
        sha256=hashlib.sha256(issued.der).digest(),
        not_after=issued.not_after,
        authority_sha256=authority.sha256,
    )
    assert expected == _identify(issued.der, [active], now)


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (timedelta(minutes=-9), None),
        (timedelta(minutes=-11), KeyProvenReason.LEAF_NOT_YET_VALID),
        (timedelta(days=90, minutes=4), None),
        (timedelta(days=90, minutes=6), KeyProvenReason.LEAF_EXPIRED),
        (timedelta(days=3000), KeyProvenReason.LEAF_EXPIRED),
    ],
)
def test_a_leaf_outside_its_dates_proves_its_key_only(
    *,
    authority: Authority,
    active: KnownAuthority,
    public_key: PublicKey,
    now: datetime,
    age: timedelta,
    reason: KeyProvenReason | None,
) -> None:
    """An expired leaf (or one from the future) is recognised, with five minutes for clocks that differ."""
    # Signed well inside the CA's dates, so that the leaf's own are what is looked at.
    signed_at = now + timedelta(days=1)
    issued = authority.issue_leaf(public_key, "agent-1", _INSTALLATION, now=signed_at)

    found = _identify(issued.der, [active], signed_at + age)

    if reason is None:
        assert isinstance(found, LeafOfAgent)
    else:
        assert KeyProven(public_key.key_id, "agent-1", reason) == found


def test_attack_a_fresh_leaf_of_a_retired_authority_is_no_agent(
    authority: Authority, active: KnownAuthority, public_key: PublicKey, now: datetime
) -> None:
    """Whoever stole a retired CA's key cannot make agents, only prove keys he holds anyway."""
    issued = authority.issue_leaf(public_key, "agent-1", _INSTALLATION, now=now)
    retired = replace(active, state=TrustState.RETIRED)

    expected = KeyProven(public_key.key_id, "agent-1", KeyProvenReason.AUTHORITY_RETIRED)
    assert expected == _identify(issued.der, [retired], now)


def test_attack_a_fresh_leaf_of_an_expired_authority_is_no_agent(
    root: Root, active: KnownAuthority, agent_key: AgentKey, public_key: PublicKey
) -> None:
    """OpenSSL told not to look at dates lets such a leaf through; we do not."""
    later = root.certificate.not_valid_after_utc + timedelta(days=1)
    leaf = _signed(root, agent_key, later)

    expected = KeyProven(public_key.key_id, "agent-1", KeyProvenReason.AUTHORITY_EXPIRED)
    assert expected == _identify(leaf, [active], later)


def test_a_leaf_of_another_installation_proves_its_key_only(
    authority: Authority, active: KnownAuthority, public_key: PublicKey, now: datetime
) -> None:
    """An agent id of another installation is not repeated: it means nothing here."""
    issued = authority.issue_leaf(public_key, "agent-1", "inst-2", now=now)

    expected = KeyProven(public_key.key_id, None, KeyProvenReason.FOREIGN_INSTALLATION)
    assert expected == _identify(issued.der, [active], now)


@pytest.mark.parametrize(
    "names",
    [
        None,
        [x509.DNSName("agent-1")],
        [x509.UniformResourceIdentifier("spiffe://ct-ops/org/inst-1/agent/")],
        [x509.UniformResourceIdentifier(_URI), x509.UniformResourceIdentifier(_URI)],
        [x509.UniformResourceIdentifier(_URI), x509.UniformResourceIdentifier(_URI + "2")],
        [x509.UniformResourceIdentifier(_URI), x509.DNSName("agent-1")],
    ],
)
def test_attack_a_leaf_that_does_not_name_exactly_one_agent_is_no_agent(
    *,
    root: Root,
    active: KnownAuthority,
    agent_key: AgentKey,
    public_key: PublicKey,
    now: datetime,
    names: Sequence[x509.GeneralName] | None,
) -> None:
    """No name, a malformed one or several names: whichever is read first must not decide."""
    leaf = _signed(root, agent_key, now, names=names)

    expected = KeyProven(public_key.key_id, None, KeyProvenReason.FOREIGN_INSTALLATION)
    assert expected == _identify(leaf, [active], now)


def test_attack_a_leaf_of_an_unknown_authority_is_anonymous(
    active: KnownAuthority, secret: SealingSecret, public_key: PublicKey, now: datetime, tmp_path: Path
) -> None:
    """A CA with our CA's name and another key makes nobody anything."""
    stranger = load_or_create_authority(tmp_path, secret, now=now)
    issued = stranger.issue_leaf(public_key, "agent-1", _INSTALLATION, now=now)

    assert stranger.certificate.subject == active.certificate.subject
    assert Anonymous(AnonymousReason.UNKNOWN_AUTHORITY) == _identify(issued.der, [active], now)
    assert Anonymous(AnonymousReason.UNKNOWN_AUTHORITY) == _identify(issued.der, [], now)


def test_of_two_authorities_with_one_name_the_signer_counts(
    *,
    authority: Authority,
    active: KnownAuthority,
    secret: SealingSecret,
    public_key: PublicKey,
    now: datetime,
    tmp_path: Path,
) -> None:
    """After a rotation both authorities' leaves are recognised, each by its own authority's state."""
    other = load_or_create_authority(tmp_path, secret, now=now)
    retired = KnownAuthority(other.certificate, TrustState.RETIRED)
    new = authority.issue_leaf(public_key, "agent-1", _INSTALLATION, now=now)
    old = other.issue_leaf(public_key, "agent-1", _INSTALLATION, now=now)

    assert isinstance(_identify(new.der, [retired, active], now), LeafOfAgent)
    assert isinstance(_identify(old.der, [retired, active], now), KeyProven)


def test_an_authority_listed_active_and_retired_is_active(
    authority: Authority, active: KnownAuthority, public_key: PublicKey, now: datetime
) -> None:
    """The same certificate listed twice does not depend on the order of the list."""
    issued = authority.issue_leaf(public_key, "agent-1", _INSTALLATION, now=now)
    retired = replace(active, state=TrustState.RETIRED)

    assert isinstance(_identify(issued.der, [retired, active], now), LeafOfAgent)


def test_attack_a_self_signed_leaf_is_anonymous(
    active: KnownAuthority, public_key: PublicKey, now: datetime
) -> None:
    """A certificate that signed itself under the CA's name is signed by nobody we know."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = make_root_certificate(key, RootName("x", "CT-Ops Agent CA", "test"), now=now)

    found = _identify(certificate.public_bytes(serialization.Encoding.DER), [active], now)

    assert Anonymous(AnonymousReason.UNKNOWN_AUTHORITY) == found


def test_the_authoritys_own_certificate_is_no_agent(
    authority: Authority, active: KnownAuthority, now: datetime
) -> None:
    """The CA's certificate verifies against itself and still names no agent."""
    found = _identify(authority.certificate.public_bytes(serialization.Encoding.DER), [active], now)

    assert isinstance(found, KeyProven)
    assert found.agent_id is None


def test_a_leaf_with_another_kind_of_key_is_anonymous(
    root: Root, active: KnownAuthority, rsa_key: rsa.RSAPrivateKey, now: datetime
) -> None:
    """A key that could not enrol is no identity, whoever signed for it."""
    leaf = _signed(root, rsa_key, now)

    assert Anonymous(AnonymousReason.KEY_NOT_ACCEPTED) == _identify(leaf, [active], now)


@pytest.mark.parametrize("leaf", [None, b""])
def test_without_a_leaf_the_caller_is_anonymous(
    active: KnownAuthority, now: datetime, leaf: bytes | None
) -> None:
    """No certificate was presented."""
    assert Anonymous(AnonymousReason.NO_LEAF) == _identify(leaf, [active], now)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_attack_a_leaf_with_any_byte_changed_is_anonymous(
    data: st.DataObject, issued_leaf: bytes, active: KnownAuthority, now: datetime
) -> None:
    """Fuzzing a leaf never raises, and never leaves anything of its identity."""
    der = bytearray(issued_leaf)
    place = data.draw(st.integers(0, len(der) - 1))
    der[place] ^= data.draw(st.integers(1, 255))

    assert isinstance(_identify(bytes(der), [active], now), Anonymous)
