"""Requests and certificates of this agent."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from ct_ops_agent.identity.certificates import (
    describe_leaf,
    leaf_life,
    make_csr,
    make_key_pair,
    names_of,
    public_key_of,
)
from fakes.conforming_server import issue_leaf, make_authority, make_server_certificate


def test_a_request_is_signed_with_its_own_key_and_says_no_more() -> None:
    """CN=ct-ops-agent, no extensions: the server names the agent."""
    keys = make_key_pair()

    csr = x509.load_der_x509_csr(make_csr(keys))

    assert csr.is_signature_valid
    assert ("CN=ct-ops-agent", 0) == (csr.subject.rfc4514_string(), len(list(csr.extensions)))
    public = csr.public_key()
    assert isinstance(public, Ed25519PublicKey)
    assert keys.public == public.public_bytes_raw() == public_key_of(keys.seed)


def test_a_leaf_about_our_key_says_when_it_ends() -> None:
    """To the second."""
    keys, ends = make_key_pair(), datetime.now(UTC).replace(microsecond=0) + timedelta(days=90)
    leaf = issue_leaf(make_authority("A"), "agent-1", Ed25519PublicKey.from_public_bytes(keys.public), ends)

    assert int(ends.timestamp()) == leaf_life(leaf, keys).not_after_unix
    assert keys.certified_by(leaf)


def test_a_leaf_about_another_key_is_refused() -> None:
    """Attack: a server hands out a certificate that somebody else has the key of."""
    ours, theirs = make_key_pair(), make_key_pair()
    ends = datetime.now(UTC) + timedelta(days=90)
    leaf = issue_leaf(make_authority("A"), "agent-1", Ed25519PublicKey.from_public_bytes(theirs.public), ends)
    authority = make_authority("A").pem

    for certificate in (leaf, authority):
        with pytest.raises(ValueError, match="another key"):
            leaf_life(certificate, ours)
        assert not ours.certified_by(certificate)


def test_what_is_no_certificate_is_refused() -> None:
    """Text from a server is not trusted to be what it should be."""
    with pytest.raises(ValueError, match="PEM"):
        leaf_life("no certificate", make_key_pair())


def test_the_names_of_a_server_are_its_alternative_names() -> None:
    """Names first, then addresses; the common name only where there is nothing else."""
    certificate, _ = make_server_certificate(None, ("192.0.2.1", "ingest.example.com"))

    assert ("ingest.example.com", "192.0.2.1") == names_of(certificate.public_bytes(Encoding.PEM).decode())
    assert ("Common Name",) == names_of(make_authority("Common Name").pem)


def test_a_leaf_is_described_for_people() -> None:
    """Who it is about, who signed it, its number and its dates."""
    keys, ends = make_key_pair(), datetime.now(UTC).replace(microsecond=0) + timedelta(days=90)
    leaf = issue_leaf(make_authority("A"), "agent-1", Ed25519PublicKey.from_public_bytes(keys.public), ends)

    facts = describe_leaf(leaf)

    assert ("CN=agent-1", "CN=Conforming Agent CA", ends.timestamp()) == (
        facts.subject,
        facts.issuer,
        facts.not_after_unix,
    )
    assert int(facts.serial, 16) == x509.load_pem_x509_certificate(leaf.encode()).serial_number
