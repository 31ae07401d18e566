"""Certificates on disk: when they end, and that places which are closed are said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import SupportsIndex

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.certificates import Certificates, CertificatesSettings, first_pem, fixed_part

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def certificates(*paths: str) -> Certificates:
    return Certificates(CertificatesSettings(paths=list(paths)), wall=NOW.timestamp)


@contextmanager
def nobody() -> Iterator[None]:
    """Be somebody who may not read everything, as the agent is."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


class Counting(bytes):
    """A content that counts how often it was searched."""

    searches = 0

    def find(
        self,
        sub: object,
        start: SupportsIndex | None = 0,
        end: SupportsIndex | None = None,
        /,
    ) -> int:
        self.searches += 1
        return super().find(sub, start, end)  # type: ignore[arg-type]


def certificate(name: str, ends: datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ends - timedelta(days=90))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_certificates_tell_when_they_end(tmp_path: Path) -> None:
    """The first of each file; one that has ended is below zero; a key alone is no certificate."""
    write(
        tmp_path,
        **{"a.crt": "text before\n" + certificate("a", NOW + timedelta(days=10)) + certificate("ca", NOW)},
    )
    write(
        tmp_path,
        **{"b.crt": certificate("b", NOW - timedelta(days=1)), "c.crt": "-----BEGIN PRIVATE KEY-----\n"},
    )
    collector = certificates(f"{tmp_path}/*.crt")
    samples = collected(collector, allow_missing=True)

    assert 2.0 == samples["certificates.files"]
    assert 10.0 == samples[f'certificates.days_left{{path="{tmp_path}/a.crt",subject="CN=a"}}']
    assert -1.0 == samples[f'certificates.days_left{{path="{tmp_path}/b.crt",subject="CN=b"}}']
    assert {f"{tmp_path}/c.crt": "holds no certificate in PEM"} == missing_parts(collector)


def test_too_many_certificates_are_said(tmp_path: Path) -> None:
    """A pattern that matches a whole disk."""
    for number in range(201):
        write(tmp_path, **{f"{number}.crt": ""})
    collector = certificates(f"{tmp_path}/*.crt")

    assert "201 files match, 200 are read" in missing_parts(collector)["certificates"]


def test_attack_beginnings_without_an_end_are_searched_twice_at_most() -> None:
    """8,000 of them: looking for an end from each would hold the interpreter for half a minute."""
    content = Counting(b"-----BEGIN CERTIFICATE-----\n" * 8_000)

    assert first_pem(content) is None
    assert 2 == content.searches


def test_an_end_that_stands_before_the_beginning_is_none() -> None:
    """A file that was cut and glued."""
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"

    assert first_pem(end + begin) is None
    assert begin + b"x" + end == first_pem(end + begin + b"x" + end + end)


def test_the_fixed_part_of_a_pattern_ends_before_its_first_wildcard() -> None:
    """One without any is all fixed."""
    assert ["/etc/letsencrypt/live", "/etc/pki", "/etc/ct-ops", "/a/b.crt"] == [
        fixed_part(pattern)
        for pattern in (
            "/etc/letsencrypt/live/*/cert.pem",
            "/etc/pki/[ab]/*.crt",
            "/etc/ct-ops/**/*.crt",
            "/a/b.crt",
        )
    ]


def test_without_the_privilege_a_closed_folder_is_said_once(tmp_path: Path) -> None:
    """Looking for files passes over it, and no files would look like no certificates."""
    closed = tmp_path / "live"
    (closed / "www").mkdir(parents=True)
    closed.chmod(0)
    collector = certificates(f"{closed}/*/cert.pem", f"{closed}/*/chain.pem", f"{closed}/www/cert.pem")
    with nobody():
        said = missing_parts(collector)

    assert {str(closed), f"{closed}/www/cert.pem"} == said.keys()
    assert "CAP_DAC_READ_SEARCH" in said[str(closed)]


def test_a_place_that_is_not_there_is_no_lack(tmp_path: Path) -> None:
    """Most hosts have not all of the places that are looked into by default."""
    assert {} == missing_parts(certificates(f"{tmp_path}/none/*.crt", f"{tmp_path}/none.crt"))
