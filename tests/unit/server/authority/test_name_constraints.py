"""A CA whose name constraints no leaf fits is told before it signs one; OpenSSL is asked whether we are right."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from ct_ops_server.authority.ca import Authority
from ct_ops_server.authority.issuer import defect_of, open_brought
from ct_ops_server.authority.public_key import PublicKey
from ct_ops_server.authority.sealing import SealingSecret
from own_authority import make_ca

URI, DNS = x509.UniformResourceIdentifier, x509.DNSName
ORGANISATION = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme")]))
ANYBODY = x509.DirectoryName(x509.Name([]))


def permitted(*names: x509.GeneralName) -> x509.NameConstraints:
    return x509.NameConstraints(permitted_subtrees=names, excluded_subtrees=None)


def excluded(*names: x509.GeneralName) -> x509.NameConstraints:
    return x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=names)


CASES: dict[str, tuple[x509.NameConstraints, str]] = {
    "our host": (permitted(URI("ct-ops")), ""),
    "our host among others": (permitted(URI("acme.test"), URI("ct-ops")), ""),
    "dns names": (permitted(DNS("acme.test")), ""),
    "no dns names": (excluded(DNS("")), ""),
    "addresses": (permitted(x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))), ""),
    "any subject": (permitted(ANYBODY), ""),
    "another host": (permitted(URI("acme.test")), "permit URIs of 'acme.test' only"),
    "a domain": (permitted(URI(".acme.test")), "permit URIs of '.acme.test' only"),
    "not our host": (excluded(URI("ct-ops")), "exclude URIs of 'ct-ops'"),
    "an organisation": (permitted(ORGANISATION), "permit subjects below 'O=Acme' only"),
    "an organisation's dns names": (permitted(ORGANISATION, DNS("acme.test")), "permit subjects below"),
    "no subject": (excluded(ANYBODY), "exclude every subject"),
}


@pytest.mark.parametrize("at_root", [False, True], ids=["its own", "of its root"])
@pytest.mark.parametrize("case", list(CASES))
def test_constraints_that_no_leaf_fits_are_told_when_the_ca_is_brought(
    case: str, secret: SealingSecret, public_key: PublicKey, now: datetime, tmp_path: Path, *, at_root: bool
) -> None:
    """And only those: OpenSSL, which decides at the handshake, says the same of a real leaf."""
    constraints, sentence = CASES[case]
    root = make_ca("Root", now=now, constraints_on_names=constraints if at_root else None)
    subject = "Agents"
    ca = make_ca(subject, above=root, now=now, constraints_on_names=None if at_root else constraints)
    issuer = open_brought(tmp_path / "ca.pem", ca.pem.encode(), ca.key_pem.encode(), secret)
    defect = defect_of(issuer.chain, now)

    assert bool(sentence) is (defect is not None)
    assert sentence in (defect or "")
    (tmp_path / "chain.pem").write_text(ca.pem)
    (tmp_path / "leaf.pem").write_text(
        Authority(issuer).issue_leaf(public_key, "a" * 24, "here", now=now).pem
    )
    assert (defect is None) is openssl_believes(tmp_path, now)


def openssl_believes(folder: Path, now: datetime) -> bool:
    """Return whether OpenSSL finds a leaf good that comes alone."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl here to ask")
    files = ["-CAfile", str(folder / "chain.pem"), str(folder / "leaf.pem")]
    at = ["-attime", str(int(now.timestamp()))]
    done = subprocess.run([program, "verify", *at, *files], capture_output=True, check=False)
    return done.returncode == 0
