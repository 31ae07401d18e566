"""Reports on certificates, also on odd ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from check_peers import sign
from ct_ops_agent.checks.report import alternative_names, describe, judge, parse_der, validity_problem
from ct_ops_agent.checks.verdict import MAX_OUTPUT_CHARS
from ct_ops_agent.work import CheckStatus

NOW = datetime.now(UTC).timestamp()
DER = sign("web-1", names=[x509.DNSName("web.example.com")]).certificate.public_bytes(Encoding.DER)


def test_a_report_is_whole_json_however_much_there_is_to_say() -> None:
    """A cut end would be no JSON; so there is less of it, and it says so."""
    names = [
        x509.DNSName(f"{'x' * 60}.{'y' * 60}.{'z' * 60}.{number}.example.com") for number in range(2_000)
    ]
    signed = sign("many", names=names)

    verdict = judge([signed.certificate] * 10, min_days_left=0, now_unix=NOW, origin={})
    report = json.loads(verdict.output)

    assert len(verdict.output) <= MAX_OUTPUT_CHARS
    assert (True, []) == (report["is_shortened"], report["chain"])
    assert 20 == len(report["sans"])


@pytest.mark.parametrize(
    ("days", "problem"),
    [(-2, "not valid before"), (0, ""), (79.9, ""), (80.1, "expires on"), (90.1, "expired on")],
)
def test_dates_are_judged_by_the_moment(days: float, problem: str) -> None:
    """Certificates are valid from their first second until their last, less the days that are wished for."""
    certificate = sign(begins=timedelta(days=-1), ends=timedelta(days=90)).certificate

    found = validity_problem(certificate, min_days_left=10, now_unix=NOW + days * 86_400)

    assert found.startswith(problem)
    assert bool(problem) == bool(found)


def test_names_that_would_move_a_cursor_are_shown_flat() -> None:
    """They come from whoever made the certificate."""
    certificate = sign("web\x1b[31m\n1").certificate

    assert "web [31m 1" == describe(certificate)["common_name"]


def test_a_certificate_without_a_name_has_none() -> None:
    """Empty, not missing."""
    report = describe(sign(names=[x509.RegisteredID(NameOID.COMMON_NAME)]).certificate)

    assert [] == report["sans"]


@pytest.mark.parametrize(
    ("key", "named"),
    [
        (ed448.Ed448PrivateKey.generate().public_key(), "Ed448"),
        (dsa.generate_private_key(2048).public_key(), "DSA 2048"),
        (rsa.generate_private_key(65537, 3072).public_key(), "RSA 3072"),
    ],
)
def test_keys_of_rare_kinds_are_named(key: ed448.Ed448PublicKey, named: str) -> None:
    """Nobody's server has to use what ours does."""
    root = sign("root", is_ca=True)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(root.certificate.subject)
        .public_key(key)
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    )
    certificate = builder.sign(root.key, hashes.SHA256())

    report = describe(certificate)

    assert (named, "", "9999-12-31T23:59:59Z") == (
        report["key_algorithm"],
        report["common_name"],
        report["not_after"],
    )
    assert CheckStatus.PASS == judge([certificate], min_days_left=3_650, now_unix=NOW, origin={}).status


def test_nothing_and_garbage_are_no_certificates() -> None:
    """Garbage behind a certificate only ends the chain."""
    with pytest.raises(ValueError, match="no certificate was presented"):
        parse_der([])
    with pytest.raises(ValueError):  # noqa: PT011  the library's own words
        parse_der([b"garbage"])

    assert 1 == len(parse_der([DER, b"garbage", DER]))


@settings(max_examples=600, deadline=None)
@given(at=st.integers(0, len(DER) - 1), value=st.integers(0, 255), cut=st.integers(0, len(DER)))
def test_a_damaged_certificate_is_a_report_or_no_certificate(at: int, value: int, cut: int) -> None:
    """Any byte changed, any end cut off: never another exception, and always JSON."""
    for der in (DER[:at] + bytes([value]) + DER[at + 1 :], DER[:cut]):
        try:
            verdict = judge(parse_der([der]), min_days_left=0, now_unix=NOW, origin={})
        except ValueError:
            continue
        assert json.loads(verdict.output)["fingerprint_sha256"]


def test_the_system_store_can_be_described() -> None:
    """Hundreds of authorities that somebody else made."""
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    found = x509.load_pem_x509_certificates(bundle.read_bytes()) if bundle.exists() else []

    assert all(describe(each)["not_after"] for each in found)


def test_each_kind_of_name_has_its_prefix() -> None:
    """Kinds that no page shows are left out."""
    names = [x509.DNSName("*.example.com"), x509.DirectoryName(x509.Name([])), x509.DNSName("a")]

    assert ["DNS:*.example.com", "DNS:a"] == list(alternative_names(sign(names=names).certificate))
